-- list: a page of the emails in one state, from the oldest or from the newest.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] state    ARGV[3] most emails    ARGV[4] "oldest" or "newest": which comes first
-- ARGV[5] time, ARGV[6] entry, ARGV[7] email: where the page before ended, each "" for the first
--
-- Goes through sorted lists, several as one, by time and entry: an entry is an email, or a batch, whose emails follow
-- one another by id. So each email has one place, whatever has left meanwhile, the one before it included. A page
-- reads so many entries of each list and so many bytes at most, and may then hold fewer emails than were asked for,
-- or none, though others follow.
--
-- Returns { { time, entry, email } or {} if nothing follows, then what email() in email_reply.lua tells of each, of its text
-- the time of submission and the envelope line alone }.

local at, state, limit = now(), ARGV[2], tonumber(ARGV[3])
local is_rising = ARGV[4] == 'oldest'
local start = { time = tonumber(ARGV[5]), entry = ARGV[6], id = ARGV[7] }
local entries_max, bytes_max = math.max(limit, 100), 4 * 1024 * 1024

-- Whether one place of a walk comes before another.
local function precedes(time, entry, other_time, other_entry)
  if is_rising then
    return time < other_time or (time == other_time and entry < other_entry)
  end
  return time > other_time or (time == other_time and entry > other_entry)
end

-- A list, of that what is behind `after` and up to `till`.
local lists = {}
local function add(name, of, after, till)
  local first = after and redis.call('ZCOUNT', key(name), '-inf', text(after)) or 0
  local last = redis.call('ZCOUNT', key(name), '-inf', till and text(till) or '+inf') - 1
  -- One more than this page can hold tells whether another follows.
  if is_rising then
    first = start.time and math.max(first, begun(key(name), start.time, start.entry)) or first
    last = math.min(last, first + entries_max)
  else
    last = start.time and math.min(last, begun(key(name), start.time, start.entry)) or last
    -- One more: where the page before ended, what it began with may stand by now.
    first = math.max(first, last - entries_max - 1)
  end
  if last >= first then
    local entries = redis.call('ZRANGE', key(name), first, last, 'WITHSCORES')
    local next = is_rising and 1 or #entries - 1
    if start.time and precedes(tonumber(entries[next + 1]), entries[next], start.time, start.entry) then
      next = next - 2
    end
    lists[#lists + 1] = { of = of, entries = entries, next = next }
  end
end

local providers = redis.call('SMEMBERS', key('providers'))
if state == 'waiting' or state == 'retrying' then
  local after, till = state == 'retrying' and at or nil, state == 'waiting' and at or nil
  for _, name in ipairs(due_names()) do
    add(name, 'emails', after, till)
  end
elseif state == 'sending' then
  add('leases', 'batches', at)
  for _, provider in ipairs(providers) do
    add('unbegun:' .. provider, 'batches')
  end
elseif state == 'in-doubt' then
  add('doubtful', 'emails')
  -- Those whose lease ran out since.
  add('leases', 'batches', nil, at)
elseif state == 'sent' then
  add('sent:expiry', 'emails')
else
  add('dead', 'emails')
end

local function comes_first(a, b)
  if is_rising then
    return a < b
  end
  return a > b
end

-- The entry of all lists whose turn it is: its emails, or nothing at the end.
local function foremost()
  local first
  for _, list in ipairs(lists) do
    local entry, time = list.entries[list.next], tonumber(list.entries[list.next + 1])
    if entry and (not first or precedes(time, entry, first.time, first.entry)) then
      first = { list = list, time = time, entry = entry, ids = { entry } }
    end
  end
  if first and first.list.of == 'batches' then
    first.ids = words(redis.call('HGET', key('batch:' .. first.entry), 'ids'))
    table.sort(first.ids, comes_first)
  end
  return first
end

local emails, entries, bytes, place = {}, 0, 0, {}
local one = foremost()
while one and entries < entries_max do
  for _, id in ipairs(one.ids) do
    if one.time ~= start.time or one.entry ~= start.entry or comes_first(start.id, id) then
      if #emails == limit or bytes > bytes_max then
        return { place, unpack(emails) }
      end
      local told = email(id, at)
      if told and told[2] == state then
        bytes = bytes + #told[4] + #told[5] + #told[6] + #told[11]
        told[4] = string.match(told[4], '^[^\n]*\n[^\n]*') or ''
        emails[#emails + 1] = told
      end
      place = { text(one.time), one.entry, id }
    end
  end
  entries = entries + 1
  one.list.next = one.list.next + (is_rising and 2 or -2)
  one = foremost()
end
return { one and place or {}, unpack(emails) }
