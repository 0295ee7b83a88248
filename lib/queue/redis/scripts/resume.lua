-- resume: lets claims go on.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- Wakes all workers, also those that have found nothing: a claim that was refused says nothing of what is due.
-- Returns 1 if claims were stopped, else 0.

local was_paused = redis.call('DEL', key('paused'))
redis.call('PUBLISH', key('wake'), '')
return was_paused
