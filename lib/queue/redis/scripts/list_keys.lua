#!lua flags=allow-oom
-- list_keys: a page of the idempotency keys, in the order in which their first use expires.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] most keys
-- ARGV[3] where the page before ended, "<time> <entry of idem:expiry>"; "" for the first
-- ARGV[4] shortest remaining life of an email's use of a key, ms
--
-- A key that housekeeping has trimmed since comes later in this order. If the last entry of the page before has moved or
-- is gone, all with its time come again. A key that several emails have comes several times.
--
-- Writes `mark`, so that a WAIT behind it waits for the emails of these keys too.
--
-- Returns { the time, where this page ended or "" if nothing follows, key, uses as in idem:<key>, key, uses, ... }.

local at, limit = now(), tonumber(ARGV[2])
local first = call('ZCOUNT', 'idem:expiry', '-inf', '(' .. text(at + ARGV[4]))
local start_time, start_entry = string.match(ARGV[3], '^(%S+) (.*)$')
if start_entry and call('ZSCORE', 'idem:expiry', start_entry) == start_time then
  first = math.max(first, call('ZRANK', 'idem:expiry', start_entry) + 1)
elseif start_entry then
  first = math.max(first, call('ZCOUNT', 'idem:expiry', '-inf', '(' .. start_time))
end
-- One more than this page holds shows whether another follows.
local found = call('ZRANGE', 'idem:expiry', first, first + limit, 'WITHSCORES')
local has_more = #found > 2 * limit
local reply = { at, has_more and found[2 * limit] .. ' ' .. found[2 * limit - 1] or '' }
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
