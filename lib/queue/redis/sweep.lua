-- sweep: housekeeping of one worker, bounded, once a second.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2…] the providers that this worker hands new emails to
--
-- Forgets ids whose time is over, and gives what only a provider outside the list may take back to all.

local at = now()
expire(at, 1000)
local served = {}
for i = 2, #ARGV do
  served[ARGV[i]] = true
end
for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
  if not served[provider] then
    local only = redis.call('ZRANGE', key('due:' .. provider), 0, 99, 'WITHSCORES')
    for i = 1, #only, 2 do
      redis.call('ZREM', key('due:' .. provider), only[i])
      redis.call('ZADD', key('due'), only[i + 1], only[i])
    end
  end
end
