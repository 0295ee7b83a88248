-- clear: removes some of the emails that wait or are to be tried again; their ids stay known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long their ids stay known, ms    ARGV[3] most emails
--
-- Returns how many it removed.

local ids, limit = {}, tonumber(ARGV[3])
for _, list in ipairs(due_lists()) do
  local some = {}
  if #ids < limit then
    some = redis.call('ZRANGE', list, 0, limit - #ids - 1)
  end
  if #some > 0 then
    redis.call('ZREM', list, unpack(some))
  end
  for _, id in ipairs(some) do
    ids[#ids + 1] = id
  end
end
if #ids > 0 then
  delete(ids, now() + ARGV[2])
end
return #ids
