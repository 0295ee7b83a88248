#!lua flags=allow-oom
-- note_acceptance: counts an acceptance that was settled in another partition.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] provider and credential, separated by a space

call('HINCRBY', 'acceptances', ARGV[2], 1)
