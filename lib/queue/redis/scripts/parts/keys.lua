-- keys: the uses of idempotency keys, and when they expire. scripts.ts inserts it where it is needed. `life` is that of a
-- key, ms.

-- The list in which an idempotency key waits for this expiry. If it is more than a whole life away, the life of the key has
-- not begun, because its email is scheduled.
local function key_list(expires, at, life)
  return tonumber(expires) > at + life + minute and 'idem:scheduled' or 'idem:expiry'
end

-- The latest possible expiry of a key's use: a whole life from now, or later if that life has not begun.
local function expiry_max(name, token, at, life)
  local scheduled = call('ZSCORE', 'idem:scheduled', name) or call('ZSCORE', 'idem:scheduled', name .. ' ' .. token)
  return math.max(at + life, tonumber(scheduled or 0))
end

-- Drops the expired uses of a key.
local function trim(name, at, life)
  local uses, left, first = words(call('GET', 'idem:' .. name) or ''), {}, nil
  for i = 1, #uses, 4 do
    local expires = tonumber(uses[i])
    expires = expires > at + life and math.min(expires, expiry_max(name, uses[i + 3], at, life)) or expires
    if expires > at then
      first = math.min(first or expires, expires)
      append(left, text(expires), uses[i + 1])
      append(left, uses[i + 2], uses[i + 3])
    end
  end
  if first then
    call('SET', 'idem:' .. name, table.concat(left, ' '))
    call('ZADD', key_list(first, at, life), text(first), name)
  else
    call('DEL', 'idem:' .. name)
  end
  if not first or key_list(first, at, life) ~= 'idem:expiry' then
    call('ZREM', 'idem:expiry', name)
  end
end
