-- cursor: where a walk through a list goes on; put before list and clear.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms

-- How many entries of a list stand before a time and an entry, whether or not that is still there.
local function begun(list, time, entry)
  local low = redis.call('ZCOUNT', list, '-inf', '(' .. text(time))
  local high = redis.call('ZCOUNT', list, '-inf', text(time))
  -- The ids are hexadecimal digits, which Lua compares as Redis does, in every locale.
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', list, middle, middle)[1] < entry then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end
