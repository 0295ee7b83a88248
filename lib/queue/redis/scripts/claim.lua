-- claim: leases one batch of a provider, in one step that is also the durable record of the hand-over.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claimant    ARGV[3] number of this claim
-- ARGV[4] lease, ms, to which a second is added for each 256 KiB of the batch's emails
-- ARGV[5] credential that would be used
-- ARGV[6] id of a new batch          ARGV[7] provider
-- ARGV[8] where to look, in this order: "emails", "split", "batches", separated by spaces
-- ARGV[9] 1 if of emails that never failed those may be taken that any provider may take, else 0
-- ARGV[10] most new emails           ARGV[11] most bytes of new emails, but one email at least
-- ARGV[12] from the first claim to the end of doubt, ms
-- ARGV[13] context of a new batch    ARGV[14] how far to count what else is due
--
-- Looks only into what this provider may take, so that another's backlog costs it nothing.
--
-- Returns { "batch", fields, email… } as lease_reply() in common.lua does, with the field "left"; or { "spent" },
-- { "paused" }, { "empty", ms until the next thing is due or -1 }.

local at = now()
local claim = { claimant = ARGV[2], number = tonumber(ARGV[3]), lease_ms = tonumber(ARGV[4]), credential = ARGV[5],
  doubt_ms = tonumber(ARGV[12]) }
local id, provider, is_shared = ARGV[6], ARGV[7], ARGV[9] == '1'
local count_max, bytes_max = tonumber(ARGV[10]), tonumber(ARGV[11])

-- How many that any provider may take are due besides.
local function with_left(reply)
  if reply[1] == 'batch' then
    local left, left_max = 0, tonumber(ARGV[14])
    if left_max > 0 then
      left = math.min(left_max, redis.call('ZCOUNT', key('due'), '-inf', text(at)))
    end
    table.insert(reply[2], 'left')
    table.insert(reply[2], text(left))
  end
  return reply
end

local before = claimed_before(claim, at)
if before then
  return with_left(before)
end

-- Long spent, and forgotten: to take it for new would put other emails under a key that was used.
if redis.call('EXISTS', key('batch:' .. id)) == 1 then
  return { 'spent' }
end
if redis.call('EXISTS', key('paused')) == 1 then
  return { 'paused' }
end

local next_due
local function is_due(time)
  time = tonumber(time)
  if time and time > at and (not next_due or time < next_due) then
    next_due = time
  end
  return time and time <= at
end

local function head_of(list)
  return redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')[2]
end

-- In doubt, or about to be, since a request that another credential made: asked with that one, while a live worker has
-- it.
local function is_anothers(b, h)
  local is_doubtful, credential = b[1] or b[2] == '1', b[3] or ''
  return is_doubtful and credential ~= '' and credential ~= claim.credential
    and string.find(h.credentials, ' ' .. provider .. ':' .. credential .. ' ', 1, true)
end

local function take_batch()
  local list, h = key('batches:' .. provider)
  for page = 0, 9 do
    local due = redis.call('ZRANGEBYSCORE', list, '-inf', text(at), 'LIMIT', page * 100, 100)
    for _, batch in ipairs(due) do
      h = h or housekeeping()
      if not is_anothers(fields(batch, 'doubt', 'held', 'credential'), h) then
        return lease(batch, record(batch), at, claim)
      end
    end
    if #due < 100 then
      break
    end
  end
  is_due(redis.call('ZRANGEBYSCORE', list, '(' .. text(at), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
end

local function due_of(list, most)
  return list and redis.call('ZRANGEBYSCORE', list, '-inf', text(at), 'WITHSCORES', 'LIMIT', 0, most) or {}
end

-- Makes a batch of the oldest of both lists, by size and number.
local function take(any, only, most, piece)
  local a, o = due_of(any, most), due_of(only, most)
  local ids, taken, bytes, i, j = {}, {}, 0, 1, 1
  while #ids < most and (a[i] or o[j]) do
    local email
    if not o[j] or (a[i] and tonumber(a[i + 1]) <= tonumber(o[j + 1])) then
      email, i = a[i], i + 2
    else
      email, j = o[j], j + 2
    end
    local size = redis.call('HSTRLEN', key('emails'), email)
    bytes = bytes + size
    if #ids > 0 and bytes > bytes_max then
      break
    end
    taken[#taken + 1] = email
    -- An older release, which does not know this list, may have deleted it.
    if size > 0 then
      ids[#ids + 1] = email
    end
  end
  if #taken > 0 then
    if any then
      redis.call('ZREM', any, unpack(taken))
    end
    redis.call('ZREM', only, unpack(taken))
  end
  if #ids == 0 then
    return nil
  end
  local members = {}
  for _, email in ipairs(ids) do
    members[#members + 1] = email
    members[#members + 1] = id
  end
  redis.call('HSET', key('members'), unpack(members))
  redis.call('SADD', key('providers'), provider)
  local b = { provider = provider, ids = table.concat(ids, ' '), lease = '0', context = ARGV[13],
    credential = claim.credential, piece = piece }
  redis.call('HSET', key('batch:' .. id), 'provider', provider, 'ids', b.ids, 'context', b.context,
    'credential', b.credential, 'piece', piece or '')
  return lease(id, b, at, claim)
end

local function take_emails()
  local any, only = is_shared and key('due') or nil, key('due:' .. provider)
  local batch = take(any, only, count_max)
  if not batch then
    is_due(any and head_of(any))
    is_due(head_of(only))
  end
  return batch
end

-- From the list that waits longest, and its twin of the same size.
local function take_split()
  local oldest, size
  for _, split in ipairs(redis.call('SMEMBERS', key('splits'))) do
    local n, owner = string.match(split, '^(%d+):?(.*)$')
    if owner == '' or owner == provider then
      local head = head_of(key('split:' .. split))
      if not head then
        redis.call('SREM', key('splits'), split)
      elseif is_due(head) and (not oldest or tonumber(head) < oldest) then
        oldest, size = tonumber(head), n
      end
    end
  end
  return size and take(key('split:' .. size), key('split:' .. size .. ':' .. provider),
    math.min(tonumber(size), count_max), size)
end

local look = { emails = take_emails, split = take_split, batches = take_batch }
for _, source in ipairs(words(ARGV[8])) do
  local reply = look[source]()
  if reply then
    return with_left(reply)
  end
end

remember(claim, '-', '0', at, claim.seen)
if is_shared and string.find(ARGV[8], 'emails', 1, true) then
  redis.call('SET', key('idle'), '1')
end
return { 'empty', next_due and next_due - at or -1 }
