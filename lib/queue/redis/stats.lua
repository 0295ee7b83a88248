-- stats: emails by state, and the counters.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- Returns { waiting, retrying, sending, in doubt, dead, sent, then name and value of each counter }.

local at = now()
local waiting, retrying, sending, doubtful = 0, 0, 0, 0

local function count_due(list)
  waiting = waiting + redis.call('ZCOUNT', list, '-inf', text(at))
  retrying = retrying + redis.call('ZCOUNT', list, '(' .. text(at), '+inf')
end

count_due(key('due'))
for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
  count_due(key('due:' .. provider))
  for _, batch in ipairs(redis.call('ZRANGE', key('batches:' .. provider), 0, -1)) do
    local b = fields(batch, 'doubt', 'held', 'until', 'ids')
    local size = #words(b[4])
    if b[1] or (b[2] == '1' and tonumber(b[3]) <= at) then
      doubtful = doubtful + size
    else
      sending = sending + size
    end
  end
end
local sent = redis.call('ZCARD', key('sent:expiry')) - redis.call('ZCARD', key('deleted'))
local reply = { waiting, retrying, sending, doubtful, redis.call('ZCARD', key('dead')), sent }
for _, value in ipairs(redis.call('HGETALL', key('counters'))) do
  reply[#reply + 1] = value
end
return reply
