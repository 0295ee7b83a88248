#!lua flags=allow-oom
-- move: begins to move the queue to another store, or cancels that.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] 1 to begin, 0 to cancel
--
-- While it is being moved, submit.lua refuses new idempotency keys and retry.lua does nothing.

if ARGV[2] == '1' then
  call('SETNX', 'moving', text(now()))
else
  call('DEL', 'moving')
end
call('SET', 'mark', text(now()))
return redis.status_reply('OK')
