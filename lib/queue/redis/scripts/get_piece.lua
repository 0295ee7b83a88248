#!lua flags=no-writes
-- get_piece: reads a piece of an email's files.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, unused
-- ARGV[2] email id
-- ARGV[3] number of the piece, from 0 on
--
-- Returns { bytes of all files of the email, the piece }, or nothing if it is not there.

local size, piece = call('HGET', 'sizes', ARGV[2]), call('HGET', 'files:' .. ARGV[2], ARGV[3])
return size and piece and { size, piece } or nil
