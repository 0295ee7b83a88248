-- levels: new emails, which have a field that the release before this one lacks, and the names of lists. scripts.ts inserts
-- it where it is needed.
--
-- The release before must never claim a new email. So new emails, and batches that contain one, are in lists that it does
-- not read. Their level is "+", which ends the names of these lists and the stored provider of such a batch. The level of
-- all other emails is "". Only new emails have files. If `has_new` is false, the partition has no new emails.

local levels = has_new and { '', '+' } or { '' }

-- The name of a key at a level, or for an owner.
local function at_level(name, level)
  return level == '' and name or name .. ':' .. level
end

-- The name of a list of emails that may be claimed, other than "scheduled".
local function list_name(piece, provider, level)
  return at_level(piece and 'split:' .. piece or 'due', (provider or '') .. level)
end

-- The parts of such a name: the size of pieces or nil, the provider or "", and the level.
local function parts_of(name)
  local piece, owner = string.match(name, '^split:(%d+):?(.*)$')
  local provider, level = string.match(owner or string.sub(name, #'due:' + 1), '^(.-)(%+?)$')
  return piece, provider, level
end

-- Records that there are new emails. Must be called before the first is stored.
local function mark_new()
  if not has_new then
    has_new = '1'
    call('SET', 'new', has_new)
  end
end
