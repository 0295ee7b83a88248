#!lua
-- put_piece: writes a piece of an email's files before the email is stored. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, unused
-- ARGV[2] email id
-- ARGV[3] number of the piece, from 0 on
-- ARGV[4] how long the email's pieces are kept from now on unless it is stored, ms
-- ARGV[5] the piece
--
-- Does nothing once the email is stored, because a delayed piece would make its files expire.

local id = ARGV[2]
if call('HEXISTS', 'sizes', id) == 0 then
  call('HSET', 'files:' .. id, ARGV[3], ARGV[5])
  call('PEXPIRE', 'files:' .. id, ARGV[4])
end
