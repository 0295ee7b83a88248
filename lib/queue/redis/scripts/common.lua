-- common: the beginning of every script; scripts.ts inserts it behind the first line of each file.
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

local format = call('GET', 'format')
if not format or format == FORMAT .. ' creating' then
  return redis.error_reply('NOQUEUE there is no queue, or it has lost its data')
elseif format ~= FORMAT then
  return redis.error_reply('FORMAT ' .. format)
end

-- A smaller difference is not a step of the clock, ms.
local step_min = 2000
local hour = 3600000

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

-- All fields of a batch, marks included.
local function record(batch)
  return hash('batch:' .. batch)
end

-- Some fields of a batch.
local function fields(batch, ...)
  local values, b = call('HMGET', 'batch:' .. batch, ...), {}
  for i, name in ipairs({ ... }) do
    b[name] = values[i] or nil
  end
  return b
end

-- Whether no worker has a batch: its lease expired or was settled.
local function is_free(b, at)
  return b.held ~= '1' or tonumber(b['until']) <= at
end

-- Emails leave the queue: id, value, id, value, … Their ids stay known until `expiry`. One command serves all of them,
-- since its fixed cost exceeds that of its work. What they become is written before what they were is removed: if a
-- command fails, no email is lost.
local function to_sent(leaving, expiry)
  if #leaving == 0 then
    return
  end
  local ids, expiries, stamp, length = {}, {}, text(expiry), #leaving
  for i = 1, length, 2 do
    ids[(i + 1) / 2] = leaving[i]
    expiries[i], expiries[i + 1] = stamp, leaving[i]
  end
  call('ZADD', 'sent:expiry', unpack(expiries))
  call('HSET', 'sent', unpack(leaving))
  call('HDEL', 'emails', unpack(ids))
  call('HDEL', 'histories', unpack(ids))
  call('HDEL', 'members', unpack(ids))
  call('ZREM', 'doubtful', unpack(ids))
end

-- The names of all lists of emails that may be claimed, in the same order each time.
local function due_names()
  local names = { 'due' }
  for _, provider in ipairs(call('SMEMBERS', 'providers')) do
    names[#names + 1] = 'due:' .. provider
  end
  for _, split in ipairs(call('SMEMBERS', 'splits')) do
    names[#names + 1] = 'split:' .. split
  end
  table.sort(names)
  return names
end

-- Removes emails that are in no batch from every list.
local function unlist(ids)
  for _, name in ipairs(due_names()) do
    call('ZREM', name, unpack(ids))
  end
  call('ZREM', 'dead', unpack(ids))
end

-- The remains of a dead letter that another queue has adopted.
local moved = '-\nmoved'

-- Deletes emails that are in no batch; their ids stay known.
local function delete(ids, expiry, remains)
  if #ids == 0 then
    return
  end
  local leaving, deleted = {}, {}
  for _, id in ipairs(ids) do
    append(leaving, id, remains or '-\n')
    append(deleted, text(expiry), id)
  end
  call('ZADD', 'deleted', unpack(deleted))
  to_sent(leaving, expiry)
  unlist(ids)
end

-- Whether an email is still the dead letter that was seen with its history.
local function is_dead_as_seen(id, history)
  return call('ZSCORE', 'dead', id) and (call('HGET', 'histories', id) or '') == history
end

-- How many entries of a list precede a time and an entry, whether or not that entry is still there.
local function rank_of(name, time, entry)
  local low = call('ZCOUNT', name, '-inf', '(' .. text(time))
  local high = call('ZCOUNT', name, '-inf', text(time))
  -- The ids are hexadecimal digits, which Lua compares as Redis does, in every locale.
  while low < high do
    local middle = math.floor((low + high) / 2)
    if call('ZRANGE', name, middle, middle)[1] < entry then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
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

local function drop_batch(batch, provider)
  call('DEL', 'batch:' .. batch)
  for _, name in ipairs({ 'batches:' .. provider, 'ends', 'leases', 'leases:doubtful' }) do
    call('ZREM', name, batch)
  end
end

-- Puts a batch in doubt for the rest of its life. `ids` are its remaining emails.
local function enter_doubt(batch, ids, at)
  local since = {}
  for _, id in ipairs(ids) do
    append(since, text(at), id)
  end
  call('HSET', 'batch:' .. batch, 'doubt', text(at))
  call('ZADD', 'doubtful', unpack(since))
  call('ZREM', 'leases', batch)
end

-- Counts the pauses and resumptions.
local function pause_version()
  return tonumber(call('GET', 'pause:version') or '0')
end

-- The findings of housekeeping.
local function housekeeping()
  local h = hash('housekeeping')
  h.served, h.credentials = h.served or '', h.credentials or ' '
  return h
end

-- When the clock stepped last and by how much; nothing after an hour.
local function last_step(h, at)
  if h.step_at and math.abs(at - h.step_at) <= hour then
    return tonumber(h.step_at), tonumber(h.step_by)
  end
end
