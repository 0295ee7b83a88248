-- pause: stops all claims.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- A script, since a plain SET is refused when memory is full. Returns 1 if they were not stopped before, else 0.

return redis.call('SETNX', key('paused'), text(now()))
