-- stats: emails by state, the counters, the condition of each provider, and how long what is due or in doubt has been
-- so.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- Reads no batch but those whose lease ran out and that nobody has claimed since: a worker's slots, if that worker
-- died. An email that was accepted elsewhere meanwhile counts as what is in its batch, until that ends.
--
-- Returns { now, waiting, retrying, sending, in doubt, dead, sent, oldest due since or "", oldest doubt since or "",
-- 1 if claims are stopped else 0, conditions() of common.lua, when the clock stepped last or "", by how much or "",
-- then name and value of each counter }.

local at = now()
local waiting, retrying, oldest_due, oldest_doubt = 0, 0, '', ''

-- The first time in a list, if that is over.
local function first_of(list, before)
  local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= at and (before == '' or tonumber(first) < tonumber(before)) then
    return first
  end
  return before
end

for _, name in ipairs(due_names()) do
  local list = key(name)
  waiting = waiting + redis.call('ZCOUNT', list, '-inf', text(at))
  retrying = retrying + redis.call('ZCOUNT', list, '(' .. text(at), '+inf')
  oldest_due = first_of(list, oldest_due)
end
for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
  oldest_due = first_of(key('batches:' .. provider), oldest_due)
end

oldest_doubt = first_of(key('leases'), first_of(key('doubtful'), oldest_doubt))
local doubtful = redis.call('ZCARD', key('doubtful'))
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', text(at))) do
  doubtful = doubtful + #words(fields(batch, 'ids')[1])
end
local step_at, step_by = last_step(housekeeping(), at)
local reply = { text(at), waiting, retrying, redis.call('HLEN', key('members')) - doubtful, doubtful,
  redis.call('ZCARD', key('dead')), redis.call('ZCARD', key('sent:expiry')) - redis.call('ZCARD', key('deleted')),
  oldest_due, oldest_doubt, redis.call('EXISTS', key('paused')), conditions(),
  step_at, step_by }
for _, value in ipairs(redis.call('HGETALL', key('counters'))) do
  reply[#reply + 1] = value
end
return reply
