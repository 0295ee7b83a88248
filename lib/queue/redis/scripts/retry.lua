#!lua flags=allow-oom
-- retry: returns dead letters to waiting, for any provider.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] counters, JSON: name -> increment for each email that is retried
-- then four for each email: id, the history that it was seen with, its new history, and the time before which it is not
--   sent, Unix ms, or ""
--
-- An email that is no longer dead, or has died again since it was seen, is left alone; and so is every email while the
-- queue is being moved, since another queue may have it already.
--
-- Returns the ids of those that were retried.

local at, retried = now(), {}
if is_moving() then
  return retried
end
for i = 3, #ARGV, 4 do
  local id, seen, history = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local sends_at = tonumber(ARGV[i + 3]) or at
  local is_dead, suffix = is_dead_as_seen(id, seen)
  if is_dead then
    if history == '' then
      call('HDEL', 'histories', id)
    else
      call('HSET', 'histories', id, history)
    end
    -- Only hidden emails have such a time, and only they may be scheduled.
    local is_ahead = sends_at > at and suffix == '+'
    call('ZADD', is_ahead and 'scheduled' or list_name(nil, nil, suffix), text(is_ahead and sends_at or at), id)
    call('ZREM', qualified('dead', suffix), id)
    retried[#retried + 1] = id
  end
end
if #retried > 0 then
  for name, by in pairs(cjson.decode(ARGV[2])) do
    call('HINCRBY', 'counters', name, by * #retried)
  end
  wake()
end
return retried
