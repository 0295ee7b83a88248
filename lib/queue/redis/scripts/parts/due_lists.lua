-- due_lists: merges the due entries of several lists, and reads the emails that fit into a batch. scripts.ts inserts it for
-- claim.lua.

local function due_of(name, at, from, most, ...)
  return call('ZRANGEBYSCORE', name, '-inf', text(at), 'LIMIT', from, most, ...)
end

-- The time of the first entry of a list.
local function head_of(name)
  return call('ZRANGE', name, 0, 0, 'WITHSCORES')[2]
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

-- Emails, each with its time of submission and its text.
local function emails_of(ids)
  return call('HMGET', 'emails', unpack(ids))
end

-- The bytes of files, by id of the email.
local function sizes_of(ids)
  local sizes = {}
  for i, size in ipairs(#ids > 0 and call('HMGET', 'sizes', unpack(ids)) or {}) do
    sizes[ids[i]] = tonumber(size or 0)
  end
  return sizes
end

-- So many emails are read at a time, since only their texts show how many fit.
local page = 10

-- The first of these emails that fit into one batch. Returns all ids, the ids and texts of those that have a text, and their
-- bytes, files included. A submission that failed halfway left its id without a text.
local function fitting(oldest, is_hidden, bytes_max)
  local taken, ids, emails, bytes, hidden = {}, {}, {}, 0, {}
  for id in pairs(is_hidden) do
    hidden[#hidden + 1] = id
  end
  local sizes = sizes_of(hidden)
  for from = 1, #oldest, page do
    local read = emails_of({ unpack(oldest, from, math.min(from + page - 1, #oldest)) })
    for i, email in ipairs(read) do
      local id = oldest[from + i - 1]
      local size = #(email or '') + (sizes[id] or 0)
      if #ids > 0 and bytes + size > bytes_max then
        return taken, ids, emails, bytes
      end
      bytes = bytes + size
      taken[#taken + 1] = id
      if email then
        ids[#ids + 1], emails[#emails + 1] = id, email
      end
    end
  end
  return taken, ids, emails, bytes
end
