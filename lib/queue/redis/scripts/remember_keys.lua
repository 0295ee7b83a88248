#!lua
-- remember_keys: adds idempotency keys of another queue. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] a list of StoredKey of admin_contract.ts, JSON
-- ARGV[3] life of an idempotency key, ms; only the key of a scheduled email lasts longer
--
-- A key that this queue already answers with another id, or refuses, stays as it is. A use lasts an hour at least: the other
-- queue may have kept it beyond its time because its clock could not be trusted.
--
-- Returns { uses that were added, uses that were left out }.

local at, added, conflicts = now(), 0, 0

-- The position of a use by the same token, if there is one: of the same email first.
local function find(uses, use)
  local mine
  for i = 1, #uses, 4 do
    if uses[i + 3] == use.token then
      if uses[i + 2] == use.fingerprint then
        return i
      end
      mine = mine or i
    end
  end
  return mine
end

-- Whether `uses` has changed.
local function remember(uses, use)
  local expires, i = at + math.max(use.lifeMs, hour), find(uses, use)
  if not i then
    append(uses, text(expires), use.id)
    append(uses, use.fingerprint, use.token)
    added = added + 1
    return true
  elseif uses[i + 1] ~= use.id then
    conflicts = conflicts + 1
  elseif expires > uses[i] + minute then
    uses[i] = text(expires)
    return true
  end
  return false
end

for _, one in ipairs(cjson.decode(ARGV[2])) do
  local name = 'idem:' .. one.key
  local uses = words(call('GET', name) or '')
  local is_new, is_changed = #uses == 0, false
  for _, use in ipairs(one.uses) do
    use.token = use.token ~= '' and use.token or '-'
    is_changed = remember(uses, use) or is_changed
  end
  if is_new and is_changed then
    local first = uses[1]
    for i = 5, #uses, 4 do
      first = math.min(first, uses[i])
    end
    call('ZADD', key_list(first, at, tonumber(ARGV[3])), text(first), one.key)
  end
  if is_changed then
    call('SET', name, table.concat(uses, ' '))
  end
end
call('SET', 'mark', text(at))
return { added, conflicts }
