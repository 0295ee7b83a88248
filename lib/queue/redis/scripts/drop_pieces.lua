#!lua flags=allow-oom
-- drop_pieces: removes the pieces of an email that was not stored, instead of leaving them to expire.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, unused
-- ARGV[2] email id

if call('HEXISTS', 'sizes', ARGV[2]) == 0 then
  call('UNLINK', 'files:' .. ARGV[2])
end
