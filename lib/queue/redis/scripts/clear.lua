#!lua flags=allow-oom
-- clear: goes through some of the emails that wait or are to be tried again, and removes those that were submitted
-- up to a time; their ids stay known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long their ids stay known, ms    ARGV[3] most emails to go through
-- ARGV[4] latest submission, Unix ms
-- ARGV[5] where to go on, "<time> <email> <list>"; "" at the beginning
--
-- Goes through one list after the other, by time and email, so that what stays is passed once. What was due up to that
-- time was submitted before it. Of the rest, the time of submission stands before the text: a call reads a limited
-- number of bytes of them, and one email more.
--
-- Removes nothing if the clock was set back: what is submitted then is stamped as if it were older.
--
-- Returns { how many it removed, where the next call begins or "" if nothing follows }, or nothing if the clock has not
-- reached the latest submission.

local limit, till = tonumber(ARGV[3]), tonumber(ARGV[4])
if now() < till then
  return false
end
local start_time, start_id, start_name = unpack(words(ARGV[5]))
local bytes_max = 4 * 1024 * 1024
local ids, listed, passed, bytes, next_at = {}, {}, 0, 0, ''

local function is_meant(id, time)
  if time <= till then
    return true
  end
  local stored = call('HGET', 'emails', id) or ''
  bytes = bytes + #stored
  return (tonumber(string.match(stored, '^%d+')) or 0) <= till
end

local function walk(name)
  local first, meant = name == start_name and rank_of(name, start_time, start_id) or 0, {}
  -- One more than this call goes through tells where the next begins.
  local entries = call('ZRANGE', name, first, first + limit - passed, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local id, time = entries[i], tonumber(entries[i + 1])
    if passed == limit or bytes > bytes_max then
      next_at = text(time) .. ' ' .. id .. ' ' .. name
      break
    end
    passed = passed + 1
    if is_meant(id, time) then
      meant[#meant + 1] = id
      ids[#ids + 1] = id
    end
  end
  listed[name] = #meant > 0 and meant or nil
end

for _, name in ipairs(due_names()) do
  if next_at == '' and name >= (start_name or '') then
    walk(name)
  end
end
if #ids > 0 then
  delete(ids, now() + ARGV[2])
end
for name, meant in pairs(listed) do
  call('ZREM', name, unpack(meant))
end
return { #ids, next_at }
