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

-- Emails with a field that the release before this one lacks are new. So that it never claims them, they wait in lists that
-- it does not read, and so do batches that contain one. "+" is their level: it ends the names of these lists, and the
-- provider of such a batch as it is stored. That of all other emails is "". Absent, `has_new` says that there are none.
local format, has_new = unpack(redis_call('MGET', key('format'), key('new')))
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

-- Adds the level of a batch to its fields, from which it is removed.
local function with_level(b)
  b.level = string.match(b.provider or '', '%+$') or ''
  b.provider = b.provider and string.sub(b.provider, 1, #b.provider - #b.level)
  b.held = b.held and string.sub(b.held, 1, 1)
  return b
end

-- All fields of a batch, marks included.
local function record(batch)
  return with_level(hash('batch:' .. batch))
end

-- Some fields of a batch.
local function fields(batch, ...)
  local values, b = call('HMGET', 'batch:' .. batch, ...), {}
  for i, name in ipairs({ ... }) do
    b[name] = values[i] or nil
  end
  return with_level(b)
end

-- The list that a batch with these fields is in.
local function batches_name(b)
  return 'batches:' .. b.provider .. b.level
end

-- Whether no worker has a batch: its lease expired or was settled.
local function is_free(b, at)
  return b.held ~= '1' or tonumber(b['until']) <= at
end

-- Whether the pieces of an email's files are all there.
local function has_files(id, pieces)
  return call('HLEN', 'files:' .. id) == pieces
end

-- Makes the files of an email permanent. In this order: without its entry in `sizes` nothing would remove them.
local function keep_files(id, bytes)
  call('HSET', 'sizes', id, text(bytes))
  call('INCRBY', 'sizes:total', text(bytes))
  call('PERSIST', 'files:' .. id)
end

local function drop_files(ids)
  local dropped, total = {}, 0
  for i, size in ipairs(call('HMGET', 'sizes', unpack(ids))) do
    if size then
      dropped[#dropped + 1], total = ids[i], total + size
      call('UNLINK', 'files:' .. ids[i])
    end
  end
  if #dropped > 0 then
    call('HDEL', 'sizes', unpack(dropped))
    call('DECRBY', 'sizes:total', text(total))
  end
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
  if has_new then
    drop_files(ids)
  end
end

-- Notes that there are new emails. To be called before the first is stored.
local function mark_new()
  if not has_new then
    has_new = '1'
    call('SET', 'new', has_new)
  end
end

local levels = has_new and { '', '+' } or { '' }

-- The name of a key at a level, or for an owner.
local function at_level(name, level)
  return level == '' and name or name .. ':' .. level
end

-- The name of a list of emails that may be claimed.
local function list_name(piece, provider, level)
  return at_level(piece and 'split:' .. piece or 'due', (provider or '') .. level)
end

-- The piece, if any, the provider or "", and the level in the name of such a list, other than "scheduled".
local function parts_of(name)
  local piece, owner = string.match(name, '^split:(%d+):?(.*)$')
  local provider, level = string.match(owner or string.sub(name, #'due:' + 1), '^(.-)(%+?)$')
  return piece, provider, level
end

-- The names of all lists of emails that may be claimed, in the same order each time.
local function due_names()
  local names, providers = has_new and { 'scheduled' } or {}, call('SMEMBERS', 'providers')
  for _, level in ipairs(levels) do
    names[#names + 1] = list_name(nil, nil, level)
    for _, provider in ipairs(providers) do
      names[#names + 1] = list_name(nil, provider, level)
    end
    for _, split in ipairs(call('SMEMBERS', at_level('splits', level))) do
      names[#names + 1] = 'split:' .. split
    end
  end
  table.sort(names)
  return names
end

-- Removes emails that are in no batch from every list.
local function unlist(ids)
  for _, name in ipairs(due_names()) do
    call('ZREM', name, unpack(ids))
  end
  for _, level in ipairs(levels) do
    call('ZREM', at_level('dead', level), unpack(ids))
  end
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

-- When an email died, and its level; nothing if it is not dead.
local function death_of(id)
  for _, level in ipairs(levels) do
    local time = call('ZSCORE', at_level('dead', level), id)
    if time then
      return tonumber(time), level
    end
  end
end

-- Whether an email is still the dead letter that was seen with its history; if so, its level.
local function is_dead_as_seen(id, history)
  local died, level = death_of(id)
  return died and (call('HGET', 'histories', id) or '') == history, level
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

-- Where an idempotency key waits for this expiry. It is scheduled if its life has not begun, so that it ends later than a
-- whole life from now.
local function key_list(expires, at, life)
  return tonumber(expires) > at + life + minute and 'idem:scheduled' or 'idem:expiry'
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

local function drop_batch(batch, b)
  call('DEL', 'batch:' .. batch)
  for _, name in ipairs({ batches_name(b), at_level('ends', b.level), 'leases', 'leases:doubtful' }) do
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
