#!lua flags=allow-oom
-- clear: goes through some of the emails that are scheduled, waiting or retrying, and deletes those that were submitted up to a
-- time; their ids stay known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long their ids stay known, ms    ARGV[3] most emails to go through
-- ARGV[4] latest submission, Unix ms
-- ARGV[5] where to begin, "<time> <email> <list>"; "" at the beginning
--
-- Goes through one list after the other, by time and email, so that it passes once what stays. What was due up to that
-- time was submitted before it. For the rest it reads the time of submission, which precedes the text: a limited number
-- of bytes, and one email more.
--
-- Refused if the clock has not reached the latest submission: what was submitted after a step back has an earlier time.
--
-- Returns { how many it deleted, where the next call begins or "" if nothing follows }.

local at, limit, till = now(), tonumber(ARGV[3]), tonumber(ARGV[4])
if at < till then
  return redis.error_reply("clear: the store's clock has stepped back since")
end
local start_time, start_id, start_name = unpack(words(ARGV[5]))
local bytes_max = 4 * 1024 * 1024
local ids, passed, bytes, next_at = {}, 0, 0, ''

local function is_meant(id, time)
  if time <= till then
    return true
  end
  local stored = call('HGET', 'emails', id) or ''
  bytes = bytes + #stored
  return (tonumber(string.match(stored, '^%d+')) or 0) <= till
end

local function walk(name)
  local first = name == start_name and rank_of(name, start_time, start_id) or 0
  -- One more than this call goes through shows where the next begins.
  local entries = call('ZRANGE', name, first, first + limit - passed, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local id, time = entries[i], tonumber(entries[i + 1])
    if passed == limit or bytes > bytes_max then
      next_at = text(time) .. ' ' .. id .. ' ' .. name
      return
    end
    passed = passed + 1
    if is_meant(id, time) then
      ids[#ids + 1] = id
    end
  end
end

for _, name in ipairs(due_names()) do
  if next_at == '' and name >= (start_name or '') then
    walk(name)
  end
end
delete(ids, at + ARGV[2])
return { #ids, next_at }
