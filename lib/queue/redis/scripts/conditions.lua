-- conditions: how each provider did lately.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- Returns what conditions() in common.lua does.

return conditions()
