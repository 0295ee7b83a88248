-- due_lists: merges the due entries of several lists. scripts.ts inserts it for claim.lua.

local function due_of(name, at, from, most, ...)
  return call('ZRANGEBYSCORE', name, '-inf', text(at), 'LIMIT', from, most, ...)
end

-- Merges lists by time. Returns at most `most` entries, and the set of those from lists of hidden emails.
local function merge(lists, most)
  local entries, is_hidden = {}, {}
  while #entries < most do
    local first
    for _, one in ipairs(lists) do
      local time = tonumber(one.found[one.next + 1])
      if time and (not first or time < first.time) then
        first, one.time = one, time
      end
    end
    if not first then
      break
    end
    local entry = first.found[first.next]
    entries[#entries + 1], first.next = entry, first.next + 2
    is_hidden[entry] = first.is_hidden or nil
  end
  return entries, is_hidden
end

-- Returns the due entries of these lists, the oldest first and at most `most` of each list; the set of hidden ones; and the
-- names of the lists that have any. Usually only the first list has any, and its times are not needed.
local function oldest_of(names, at, from, most, merged_max)
  local lists, used = {}, {}
  for i = #names, 1, -1 do
    local name = names[i]
    if i == 1 and #lists == 0 then
      return due_of(name, at, from, most), {}, { name }
    end
    local found = due_of(name, at, from, most, 'WITHSCORES')
    if #found > 0 then
      table.insert(lists, 1, { found = found, next = 1, is_hidden = is_hidden_list(name) })
      used[#used + 1] = name
    end
  end
  local entries, is_hidden = merge(lists, merged_max)
  return entries, is_hidden, used
end
