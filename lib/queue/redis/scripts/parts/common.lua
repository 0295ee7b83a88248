-- common: the beginning of every script. scripts.ts inserts it after the first line of each file, followed by the other
-- parts that the script needs. Each call of a script creates all of its functions, which takes time.
--
-- KEYS[1] partition      the one hash tag of all its keys, such as {reliable-email:0}
-- KEYS[2] the key format, which always exists
-- KEYS[3] the key absent, which never exists
-- ARGV[1] clock offset   ms added to Redis's clock; 0 except in tests
--
-- docs/storage.md lists the keys of a partition, each behind "<partition>:".
--
-- FORMAT is the format that this process expects, see queue_format.ts; scripts.ts defines it. Every script refuses a
-- partition of another format, and one without a format: it lost its data, or was never created, or not completely.
--
-- No script uses KEYS[2] and KEYS[3]: while a cluster moves the slot to another node, some keys are on each. Because one
-- of these two is on the other node in any case, Redis refuses the script on both nodes (TRYAGAIN). Otherwise it would
-- run on a part of the keys.

local function key(name)
  return KEYS[1] .. ':' .. name
end

local redis_call = redis.call

-- Runs a command of Redis on one key of the partition.
local function call(command, name, ...)
  return redis_call(command, key(name), ...)
end

-- One command reads the format, and whether there may be hidden emails: see hidden.lua.
local format, has_hidden = unpack(redis_call('MGET', key('format'), key('hidden')))
if not format or format == FORMAT .. ' creating' then
  return redis.error_reply('NOQUEUE there is no queue, or it has lost its data')
elseif format ~= FORMAT then
  return redis.error_reply('FORMAT ' .. format)
end

-- A smaller difference is not a step of the clock, ms.
local step_min = 2000
local minute, hour = 60000, 3600000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
end

-- A time or a count as Redis stores it: without fraction or exponent.
local function text(number)
  return string.format('%d', number)
end

local function words(line)
  local list = {}
  for word in string.gmatch(line, '%S+') do
    list[#list + 1] = word
  end
  return list
end

local function append(list, first, second)
  local length = #list
  list[length + 1] = first
  list[length + 2] = second
end

-- A whole hash.
local function hash(name)
  local all, h = call('HGETALL', name), {}
  for i = 1, #all, 2 do
    h[all[i]] = all[i + 1]
  end
  return h
end

-- Whether an operator moves the queue to another store: see move.lua.
local function is_moving()
  return call('EXISTS', 'moving') == 1
end

-- Wakes workers that have found nothing.
local function wake()
  if call('DEL', 'idle') == 1 then
    call('PUBLISH', 'wake', '')
  end
end

-- Counts the pauses and resumptions.
local function pause_version()
  return tonumber(call('GET', 'pause:version') or '0')
end
