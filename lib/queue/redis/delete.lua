-- delete: removes one email that is in no batch; its id stays known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] email id    ARGV[3] how long its id stays known, ms
--
-- Returns "deleted", "in-batch" or "unknown".

local id = ARGV[2]
if redis.call('HEXISTS', key('members'), id) == 1 then
  return 'in-batch'
end
if redis.call('HEXISTS', key('emails'), id) == 0 then
  return 'unknown'
end
local expiry = now() + ARGV[3]
unlist(id)
to_sent({ id, '-\n' }, expiry)
redis.call('ZADD', key('deleted'), text(expiry), id)
return 'deleted'
