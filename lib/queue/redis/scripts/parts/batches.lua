-- batches: their fields, and how they change. scripts.ts inserts it where it is needed, after hidden.lua.

-- Moves the suffix of the fields `provider` and `held` into a field of its own.
local function read_suffix(b)
  b.suffix = string.match(b.provider or '', '%+$') or ''
  b.provider = b.provider and string.sub(b.provider, 1, #b.provider - #b.suffix)
  b.held = b.held and string.sub(b.held, 1, 1)
  return b
end

-- The name of the list that holds a batch with these fields.
local function batches_name(b)
  return 'batches:' .. b.provider .. b.suffix
end

-- All fields of a batch, marks included.
local function record(batch)
  return read_suffix(hash('batch:' .. batch))
end

-- Some fields of a batch.
local function fields(batch, ...)
  local values, b = call('HMGET', 'batch:' .. batch, ...), {}
  for i, name in ipairs({ ... }) do
    b[name] = values[i] or nil
  end
  return read_suffix(b)
end

-- The ids of a batch that another one has delivered since they joined it, separated by spaces.
local function marked_of(b)
  local marked = {}
  for name in pairs(b) do
    marked[#marked + 1] = string.match(name, '^mark:(.*)')
  end
  return table.concat(marked, ' ')
end

-- Whether no worker has a batch: its lease expired or was settled.
local function is_free(b, at)
  return b.held ~= '1' or tonumber(b['until']) <= at
end

local function drop_batch(batch, b)
  call('DEL', 'batch:' .. batch)
  for _, name in ipairs({ batches_name(b), qualified('ends', b.suffix), 'leases', 'leases:doubtful' }) do
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
