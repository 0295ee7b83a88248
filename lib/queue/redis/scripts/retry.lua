-- retry: sends dead letters back to waiting, due now, for any provider.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] number of counters, then for each: name, increment for each email that is replayed
-- then three for each email: id, the history that it was seen with, its new history
--
-- What is not dead any more, or has died again since it was seen, is left alone.
--
-- Returns the ids of those that were replayed.

local at, replayed = now(), {}
for i = 3 + 2 * ARGV[2], #ARGV, 3 do
  local id, seen, history = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local is_dead = redis.call('ZSCORE', key('dead'), id)
  if is_dead and (redis.call('HGET', key('histories'), id) or '') == seen then
    redis.call('ZADD', key('due'), text(at), id)
    redis.call('ZREM', key('dead'), id)
    if history == '' then
      redis.call('HDEL', key('histories'), id)
    else
      redis.call('HSET', key('histories'), id, history)
    end
    replayed[#replayed + 1] = id
  end
end
if #replayed > 0 then
  for i = 1, ARGV[2] do
    redis.call('HINCRBY', key('counters'), ARGV[1 + 2 * i], ARGV[2 + 2 * i] * #replayed)
  end
  wake()
end
return replayed
