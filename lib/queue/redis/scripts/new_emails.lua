-- new_emails: emails with a field that the release before this one lacks, and their files. scripts.ts inserts it behind
-- common.lua.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms; neither is used here
--
-- That release must never claim such a new email. So they wait in lists that it does not read, and so do batches that
-- contain one. "+" is their level: it ends the names of these lists, and the provider of such a batch as it is stored. The
-- level of all other emails is "". Only new emails have files. Absent, `has_new` says that there are none.

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

-- Adds the level of a batch to its fields, from which it is removed.
local function with_level(b)
  b.level = string.match(b.provider or '', '%+$') or ''
  b.provider = b.provider and string.sub(b.provider, 1, #b.provider - #b.level)
  b.held = b.held and string.sub(b.held, 1, 1)
  return b
end

-- The list that a batch with these fields is in.
local function batches_name(b)
  return 'batches:' .. b.provider .. b.level
end

-- Notes that there are new emails. To be called before the first is stored.
local function mark_new()
  if not has_new then
    has_new = '1'
    call('SET', 'new', has_new)
  end
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
