#!lua flags=allow-oom
-- withdraw: makes scheduled emails dead letters, so that another queue can adopt them.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- then three for each email: id, the history that it was seen with, its new history
--
-- Only while the queue is being moved: otherwise it could retry them itself. An email that has been claimed or deleted
-- since it was seen is left alone.
--
-- Returns the ids of those that are dead letters now.

local at, withdrawn = now(), {}
for i = 2, #ARGV, 3 do
  local id, seen, history = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local is_scheduled = is_moving() and call('ZSCORE', 'scheduled', id) and call('HEXISTS', 'emails', id) == 1
  if is_scheduled and (call('HGET', 'histories', id) or '') == seen then
    call('HSET', 'histories', id, history)
    call('ZADD', 'dead:+', text(at), id)
    call('ZREM', 'scheduled', id)
    withdrawn[#withdrawn + 1] = id
  end
end
call('SET', 'mark', text(at))
return withdrawn
