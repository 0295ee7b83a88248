#!lua flags=allow-oom
-- pause: pauses all claims, or resumes them.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] 1 to pause, 0 to resume
--
-- Resuming wakes all workers, even those that are not marked as idle: a refused claim has searched nothing.

if ARGV[2] == '1' then
  call('SETNX', 'paused', text(now()))
else
  call('DEL', 'paused')
  call('PUBLISH', 'wake', '')
end
return redis.status_reply('OK')
