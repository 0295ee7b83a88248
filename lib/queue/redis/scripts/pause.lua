#!lua flags=allow-oom
-- pause: stops all claims, or lets them go on.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] 1 to stop them, 0 to let them go on
--
-- The end of a pause wakes all workers, also those that have found nothing: a claim that was refused did not look.

if ARGV[2] == '1' then
  call('SETNX', 'paused', text(now()))
else
  call('DEL', 'paused')
  call('PUBLISH', 'wake', '')
end
return redis.status_reply('OK')
