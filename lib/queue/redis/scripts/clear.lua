-- clear: goes through some of the emails that wait or are to be tried again, and removes those that were submitted
-- till then; their ids stay known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long their ids stay known, ms    ARGV[3] most emails to go through
-- ARGV[4] latest submission, Unix ms
-- ARGV[5] time, ARGV[6] email, ARGV[7] list: where to go on, each "" at the beginning
--
-- Goes through one list after the other, by time and email, so that what stays is passed once. What was due till then
-- was submitted till then. Of the rest, the time of submission stands before the text: a call reads so many bytes of
-- them at most, and one email.
--
-- Removes nothing if the clock has been set back: what is submitted then is stamped as if it were older.
--
-- Returns { how many it removed, then time, email and list of the next, if one follows }, or nothing if the clock
-- has not reached the latest submission.

local limit, till = tonumber(ARGV[3]), tonumber(ARGV[4])
if now() < till then
  return false
end
local start = { time = tonumber(ARGV[5]) or -1, id = ARGV[6], name = ARGV[7] }
local bytes_max = 4 * 1024 * 1024

local ids, listed, passed, bytes, place = {}, {}, 0, 0, {}

local function is_meant(id, time)
  if time <= till then
    return true
  end
  local stored = redis.call('HGET', key('emails'), id) or ''
  bytes = bytes + #stored
  return (tonumber(string.match(stored, '^%d+')) or 0) <= till
end

local function walk(name)
  local list, first, meant = key(name), 0, {}
  if name == start.name then
    first = begun(list, start.time, start.id)
  end
  -- One more than this call goes through tells where the next begins.
  local entries = redis.call('ZRANGE', list, first, first + limit - passed, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local id, time = entries[i], tonumber(entries[i + 1])
    if passed == limit or bytes > bytes_max then
      place = { text(time), id, name }
      break
    end
    passed = passed + 1
    if is_meant(id, time) then
      meant[#meant + 1] = id
      ids[#ids + 1] = id
    end
  end
  if #meant > 0 then
    listed[list] = meant
  end
end

for _, name in ipairs(due_names()) do
  if #place == 0 and name >= start.name then
    walk(name)
  end
end
if #ids > 0 then
  delete(ids, now() + ARGV[2])
end
for list, meant in pairs(listed) do
  redis.call('ZREM', list, unpack(meant))
end
return { #ids, unpack(place) }
