#!lua flags=allow-oom
-- permissions: whether Redis would run the scripts of the queue now.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, unused
-- ARGV[2…] the commands that the scripts call
--
-- Runs without common.lua, before there is a queue. Writes nothing, but is not flagged `no-writes`: Redis refuses it
-- whenever it refuses writes, in its own words.
--
-- Returns the first command that the user of this connection may not run on the queue's keys, or nothing.

-- Services that are compatible with Redis may lack it.
if not redis.acl_check_cmd then
  return nil
end
for i = 2, #ARGV do
  local command = ARGV[i]
  if not redis.acl_check_cmd(command, KEYS[1] .. (command == 'PUBLISH' and ':wake' or ':emails')) then
    return command
  end
end
return nil
