-- levels: emails with a field that the release before this one lacks, and the names of lists. scripts.ts inserts it where it
-- is needed.
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

-- Notes that there are new emails. To be called before the first is stored.
local function mark_new()
  if not has_new then
    has_new = '1'
    call('SET', 'new', has_new)
  end
end
