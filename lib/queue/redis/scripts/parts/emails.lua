-- emails: how they leave the queue, and where they are. scripts.ts inserts it where it is needed, after hidden.lua and
-- files.lua.

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
  if has_hidden then
    drop_files(ids)
  end
end

-- The names of all lists of emails that may be claimed, in the same order each time.
local function due_names()
  local names, providers = has_hidden and { 'scheduled' } or {}, call('SMEMBERS', 'providers')
  for _, suffix in ipairs(suffixes) do
    names[#names + 1] = list_name(nil, nil, suffix)
    for _, provider in ipairs(providers) do
      names[#names + 1] = list_name(nil, provider, suffix)
    end
    for _, split in ipairs(call('SMEMBERS', qualified('splits', suffix))) do
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
  for _, suffix in ipairs(suffixes) do
    call('ZREM', qualified('dead', suffix), unpack(ids))
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

-- When an email died, and the suffix of its list; nothing if it is not dead.
local function death_of(id)
  for _, suffix in ipairs(suffixes) do
    local time = call('ZSCORE', qualified('dead', suffix), id)
    if time then
      return tonumber(time), suffix
    end
  end
end

-- Whether an email is still the dead letter that was seen with its history; if so, the suffix of its list.
local function is_dead_as_seen(id, history)
  local died, suffix = death_of(id)
  return died and (call('HGET', 'histories', id) or '') == history, suffix
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
