#!lua flags=allow-oom
-- list_keys: a page of the idempotency keys. Those whose life has not begun come first, so that a key whose life begins
-- meanwhile is not missed. In both parts, keys are in the order in which their first use expires.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] most keys
-- ARGV[3] where the previous page ended, "<list> <time> <entry>"; "" for the first
-- ARGV[4] shortest remaining life of an email's use of a key, ms
--
-- A key that housekeeping has trimmed since comes later in this order. If the last entry of the page before has moved or
-- is gone, all with its time come again. A key that several emails have comes several times.
--
-- Writes `mark`, so that a WAIT behind it waits for the emails of these keys too.
--
-- Returns { the time, where this page ended or "" if nothing follows, key, uses as in idem:<key>, key, uses, ... }.

local at, limit = now(), tonumber(ARGV[2])
local start_list, start_time, start_entry = string.match(ARGV[3], '^(%S+) (%S+) (.*)$')

-- One entry more than this page holds shows whether another follows.
local function find(name)
  local first = call('ZCOUNT', name, '-inf', '(' .. text(at + ARGV[4]))
  if name == start_list and call('ZSCORE', name, start_entry) == start_time then
    first = math.max(first, call('ZRANK', name, start_entry) + 1)
  elseif name == start_list then
    first = math.max(first, call('ZCOUNT', name, '-inf', '(' .. start_time))
  end
  return call('ZRANGE', name, first, first + limit, 'WITHSCORES')
end

local name = start_list or 'idem:scheduled'
local found = find(name)
if name == 'idem:scheduled' and #found == 0 then
  name = 'idem:expiry'
  found = find(name)
end
local next_at = name == 'idem:scheduled' and 'idem:expiry 0 ' or ''
if #found > 2 * limit then
  next_at = name .. ' ' .. found[2 * limit] .. ' ' .. found[2 * limit - 1]
end
local reply = { at, next_at }
local names, stored = {}, {}
for i = 1, math.min(#found, 2 * limit), 2 do
  names[#names + 1] = string.match(found[i], '^%S+')
  stored[#stored + 1] = key('idem:' .. names[#names])
end
for i, uses in ipairs(#names > 0 and redis_call('MGET', unpack(stored)) or {}) do
  append(reply, names[i], uses or '')
end
call('SET', 'mark', text(at))
return reply
