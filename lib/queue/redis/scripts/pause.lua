#!lua flags=allow-oom
-- pause: pauses all claims, or resumes them.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] 1 to pause, 0 to resume
-- ARGV[3] version, with several partitions: the highest one holds for all of them, and of two with the same a pause. An
--         older version than this partition has is ignored; "" for the next one, if that changes anything
--
-- Publishes the version, and 1 or 0.
--
-- Resuming wakes all workers, even those that are not marked as idle: a refused claim has searched nothing.

local version, wanted, pauses = pause_version(), tonumber(ARGV[3]), ARGV[2] == '1'
if wanted and (wanted < version or (wanted == version and not pauses)) then
  return redis.status_reply('OK')
end
if not wanted then
  local is_paused = call('EXISTS', 'paused') == 1
  wanted = is_paused == pauses and version or version + 1
end
call('SET', 'pause:version', text(wanted))
if pauses then
  call('SETNX', 'paused', text(now()))
else
  call('DEL', 'paused')
end
call('PUBLISH', 'wake', text(wanted) .. ' ' .. ARGV[2])
return redis.status_reply('OK')
