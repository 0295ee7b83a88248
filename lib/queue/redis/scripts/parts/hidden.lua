-- hidden: emails that are hidden from the previous release (see ../../../contract.ts), and the names of lists. scripts.ts
-- inserts it where it is needed.
--
-- Hidden emails, and batches that contain one, are in lists that the previous release does not read: the names of these
-- lists, and the stored provider of such a batch, end in the suffix "+". The suffix of all others is "". Only hidden emails
-- have files or are scheduled. If `has_hidden` is false, the partition has no hidden emails.

local suffixes = has_hidden and { '', '+' } or { '' }

-- "<name>:<by>", or the name alone if `by` is empty.
local function qualified(name, by)
  return by == '' and name or name .. ':' .. by
end

-- The name of a list of emails that may be claimed, other than "scheduled".
local function list_name(piece, provider, suffix)
  return qualified(piece and 'split:' .. piece or 'due', (provider or '') .. suffix)
end

-- The parts of such a name: the size of pieces or nil, the provider or "", and the suffix.
local function parts_of(name)
  local piece, owner = string.match(name, '^split:(%d+):?(.*)$')
  local provider, suffix = string.match(owner or string.sub(name, #'due:' + 1), '^(.-)(%+?)$')
  return piece, provider, suffix
end

-- Whether the emails of a list are hidden.
local function is_hidden_list(name)
  return name == 'scheduled' or string.sub(name, -1) == '+'
end

-- Records that there are hidden emails. Must be called before the first is stored.
local function mark_hidden()
  if not has_hidden then
    has_hidden = '1'
    call('SET', 'hidden', has_hidden)
  end
end
