-- sweep: housekeeping of one worker, bounded, once a second.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long an id stays known, ms
-- ARGV[3…] the providers that this worker hands new emails to
--
-- Forgets ids whose time is over. Gives back to all what only a provider outside the list may take: emails handed
-- over to it, and batches split off for it that nobody has begun. (Those that were begun are in doubt, and end so.)

local at = now()
expire(at, 1000)
local served = {}
for i = 3, #ARGV do
  served[ARGV[i]] = true
end
for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
  if not served[provider] then
    local only = redis.call('ZRANGE', key('due:' .. provider), 0, 99, 'WITHSCORES')
    for i = 1, #only, 2 do
      redis.call('ZREM', key('due:' .. provider), only[i])
      redis.call('ZADD', key('due'), only[i + 1], only[i])
    end
    for _, batch in ipairs(redis.call('ZRANGE', key('unbegun:' .. provider), 0, 19)) do
      local b = record(batch)
      for _, id in ipairs(words(b.ids)) do
        if b['mark:' .. id] then
          to_sent({ id, b['mark:' .. id] }, at + ARGV[2])
        else
          redis.call('HDEL', key('members'), id)
          redis.call('ZADD', key('due'), text(at), id)
        end
      end
      drop_batch(batch, provider)
    end
  end
end
