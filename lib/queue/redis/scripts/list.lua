#!lua flags=no-writes
-- list: one email by its id, or a page of the emails in one state, from the oldest or from the newest.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] state, or "id" for one email    ARGV[3] most emails, or that id
-- ARGV[4] "oldest" or "newest": which comes first
-- ARGV[5] where the page before ended, "<time> <entry> <email>"; "" for the first
--
-- Merges several lists by time and entry: an entry is an email, or a batch, whose emails follow one another by id. So
-- each email has one place, whatever has left meanwhile, even the one before it. A page reads a limited number of
-- entries of each list and of bytes, and may then hold fewer emails than were asked for, or none, though others follow.
--
-- Returns where this page ends, or "" if nothing follows, then a StoredEmail of contract.ts, as JSON, for each email;
-- its text is the envelope line alone, except for one email by its id.

local at, state = now(), ARGV[2]

-- The remains of an email that was sent or deleted.
local function gone(id, value)
  local by, envelope, remains = string.match(value, '^([^\n]*)\n([^\n]*)\n?(.*)$')
  if by == '-' then
    return { id = id, state = 'deleted', history = '' }
  end
  return { id = id, state = 'sent', text = envelope, history = '', record = remains }
end

-- An email as StoredEmail of contract.ts has it; nothing for an unknown id.
local function email(id)
  local sent, stored = call('HGET', 'sent', id), call('HGET', 'emails', id)
  if sent then
    return gone(id, sent)
  elseif not stored then
    return nil
  end
  local submitted, content = string.match(stored, '^(%d+)\n(.*)$')
  local one = { id = id, text = content, submittedAtMs = tonumber(submitted),
    history = call('HGET', 'histories', id) or '' }
  local batch = call('HGET', 'members', id)
  if batch then
    local mark = 'mark:' .. id
    local b = fields(batch, 'provider', 'lease', 'doubt', 'held', 'until', 'notes', 'lapsed', mark)
    if b[mark] then
      return gone(id, b[mark])
    end
    local is_leased = not is_free(b, at)
    local has_expired = b.held == '1' and not is_leased
    one.state = (b.doubt or has_expired) and 'in-doubt' or 'sending'
    one.batch = { id = batch, provider = b.provider, lease = tonumber(b.lease),
      -- A page would read the ids of a batch once for each of its emails.
      emailIds = state == 'id' and words(call('HGET', 'batch:' .. batch, 'ids')) or nil,
      dueAtMs = tonumber(call('ZSCORE', batches_name(b), batch)), leased = is_leased,
      leaseExpired = has_expired or b.lapsed == '1', doubtSinceMs = tonumber(b.doubt), notes = b.notes or '' }
    return one
  end
  one.state, one.atMs = 'dead', (death_of(id))
  for _, name in ipairs(one.atMs and {} or due_names()) do
    one.atMs, one.state = tonumber(call('ZSCORE', name, id)), 'waiting'
    if one.atMs then
      one.state = one.atMs <= at and 'waiting' or name == 'scheduled' and 'scheduled' or 'retrying'
      return one
    end
  end
  return one
end

if state == 'id' then
  local one = email(ARGV[3])
  return one and { '', cjson.encode(one) } or { '' }
end

local limit, is_rising = tonumber(ARGV[3]), ARGV[4] == 'oldest'
local start = {}
start.time, start.entry, start.id = unpack(words(ARGV[5]))
start.time = tonumber(start.time)
local entries_max, bytes_max = math.max(limit, 100), 4 * 1024 * 1024

local function comes_first(a, b)
  if is_rising then
    return a < b
  end
  return a > b
end

-- Whether one entry comes before another.
local function precedes(a, b)
  if a.time == b.time then
    return comes_first(a.entry, b.entry)
  end
  return comes_first(a.time, b.time)
end

-- Adds the entries of a list, or those that are due behind `after` and up to `till`, from where the page before ended:
-- as many as this page can hold, and one more, which shows whether another page follows.
local entries = {}
local function add(name, holds_batches, after, till)
  local first = after and call('ZCOUNT', name, '-inf', text(after)) or 0
  local last = call('ZCOUNT', name, '-inf', till and text(till) or '+inf') - 1
  if is_rising then
    first = start.time and math.max(first, rank_of(name, start.time, start.entry)) or first
    last = math.min(last, first + entries_max)
  else
    last = start.time and math.min(last, rank_of(name, start.time, start.entry)) or last
    -- One more: the entry that the page before began with may be where that page ended.
    first = math.max(first, last - entries_max - 1)
  end
  local found = last < first and {} or call('ZRANGE', name, first, last, 'WITHSCORES')
  for i = 1, #found, 2 do
    local one = { entry = found[i], time = tonumber(found[i + 1]), holds_batches = holds_batches }
    if not start.time or not precedes(one, start) then
      entries[#entries + 1] = one
    end
  end
end

if state == 'scheduled' then
  add('scheduled', false, at)
elseif state == 'waiting' or state == 'retrying' then
  local after, till = state == 'retrying' and at or nil, state == 'waiting' and at or nil
  for _, name in ipairs(due_names()) do
    if name ~= 'scheduled' or till then
      add(name, false, after, till)
    end
  end
elseif state == 'sending' then
  add('leases', true, at)
elseif state == 'in-doubt' then
  add('doubtful')
  -- Those whose lease has expired since.
  add('leases', true, nil, at)
elseif state == 'dead' then
  for _, suffix in ipairs(suffixes) do
    add(qualified('dead', suffix))
  end
else
  add('sent:expiry')
end
table.sort(entries, precedes)

local function ids_of(one)
  if not one.holds_batches then
    return { one.entry }
  end
  local ids = words(call('HGET', 'batch:' .. one.entry, 'ids'))
  table.sort(ids, comes_first)
  return ids
end

local emails, bytes, ended_at = {}, 0, ''
for n = 1, math.min(#entries, entries_max) do
  local one = entries[n]
  for _, id in ipairs(ids_of(one)) do
    if one.time ~= start.time or one.entry ~= start.entry or comes_first(start.id, id) then
      if #emails == limit or bytes > bytes_max then
        return { ended_at, unpack(emails) }
      end
      local found = email(id)
      if found and found.state == state then
        bytes = bytes + #(found.text or '')
        found.text = found.text and string.match(found.text, '^[^\n]*')
        emails[#emails + 1] = cjson.encode(found)
        bytes = bytes + #emails[#emails]
      end
      ended_at = text(one.time) .. ' ' .. one.entry .. ' ' .. id
    end
  end
end
return { #entries > entries_max and ended_at or '', unpack(emails) }
