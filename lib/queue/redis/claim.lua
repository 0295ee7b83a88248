-- claim: leases one batch of a provider, in one step that is also the durable record of the hand-over.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claim id, also the id of a new batch    ARGV[3] provider
-- ARGV[4] most new emails                         ARGV[5] most bytes of new emails, but one email at least
-- ARGV[6] lease, ms                               ARGV[7] from the first claim to the end of doubt, ms
-- ARGV[8] context of a new batch                  ARGV[9] "batches" or "emails": where to look first
--
-- Looks only into what this provider may take, so that another's backlog costs it nothing.
--
-- Returns the flat list of leased() in common.lua, { "spent" }, { "paused" }, or { "empty", ms until the next thing is
-- due or -1 }.

local at = now()
local claim, provider = ARGV[2], ARGV[3]
local lease_ms, doubt_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local before = claimed_before(claim, at)
if before then
  return before
end

-- Long spent, and forgotten: to take it for new would put other emails under a key that was used.
if redis.call('EXISTS', key('batch:' .. claim)) == 1 then
  return { 'spent' }
end
if redis.call('EXISTS', key('paused')) == 1 then
  return { 'paused' }
end

local batches, any, only = key('batches:' .. provider), key('due'), key('due:' .. provider)

local function take_batch()
  local batch = redis.call('ZRANGEBYSCORE', batches, '-inf', text(at), 'LIMIT', 0, 1)[1]
  if batch then
    lease(batch, at, lease_ms, doubt_ms, claim)
  end
  return batch
end

-- The oldest of both lists, by size and number.
local function choose()
  local count_max, bytes_max = tonumber(ARGV[4]), tonumber(ARGV[5])
  local a = redis.call('ZRANGEBYSCORE', any, '-inf', text(at), 'WITHSCORES', 'LIMIT', 0, count_max)
  local o = redis.call('ZRANGEBYSCORE', only, '-inf', text(at), 'WITHSCORES', 'LIMIT', 0, count_max)
  local ids, bytes, i, j = {}, 0, 1, 1
  while #ids < count_max and (a[i] or o[j]) do
    local id
    if not o[j] or (a[i] and tonumber(a[i + 1]) <= tonumber(o[j + 1])) then
      id, i = a[i], i + 2
    else
      id, j = o[j], j + 2
    end
    bytes = bytes + redis.call('HSTRLEN', key('emails'), id)
    if #ids > 0 and bytes > bytes_max then
      break
    end
    ids[#ids + 1] = id
  end
  return ids
end

local function take_emails()
  local ids = choose()
  if #ids == 0 then
    return nil
  end
  redis.call('ZREM', any, unpack(ids))
  redis.call('ZREM', only, unpack(ids))
  local members = {}
  for _, id in ipairs(ids) do
    members[#members + 1] = id
    members[#members + 1] = claim
  end
  redis.call('HSET', key('members'), unpack(members))
  redis.call('SADD', key('providers'), provider)
  redis.call('HSET', key('batch:' .. claim), 'provider', provider, 'ids', table.concat(ids, ' '), 'lease', 0,
    'context', ARGV[8])
  lease(claim, at, lease_ms, doubt_ms, claim)
  return claim
end

local batch
if ARGV[9] == 'batches' then
  batch = take_batch() or take_emails()
else
  batch = take_emails() or take_batch()
end
if batch then
  return leased(batch, at)
end

local lists = { batches }
if tonumber(ARGV[4]) > 0 then
  lists = { batches, any, only }
  redis.call('SET', key('idle'), '1')
end
local next_due = -1
for _, list in ipairs(lists) do
  local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - at)
    if next_due == -1 or wait < next_due then
      next_due = wait
    end
  end
end
return { 'empty', next_due }
