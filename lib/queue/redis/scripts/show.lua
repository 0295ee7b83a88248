-- show: where one email is, and what is kept of it.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] email id
--
-- Returns what email() in email_reply.lua tells, or nothing for an unknown id.

return email(ARGV[2], now())
