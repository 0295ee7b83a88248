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

-- Redis 8 insists on the right number of arguments.
local function is_permitted(command, name)
  local arguments = {}
  for i = 1, 4 do
    arguments[i] = name
    local is_complete, permitted = pcall(redis.acl_check_cmd, command, unpack(arguments))
    if is_complete then
      return permitted
    end
  end
  return redis.acl_check_cmd(command)
end

for i = 2, #ARGV do
  local command = ARGV[i]
  if not is_permitted(command, KEYS[1] .. (command == 'PUBLISH' and ':wake' or ':emails')) then
    return command
  end
end
return nil
