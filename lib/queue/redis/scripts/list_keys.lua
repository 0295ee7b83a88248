#!lua flags=allow-oom
-- list_keys: a page of the idempotency keys, in the order in which their first use expires.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] most keys
-- ARGV[3] where the page before ended, "<time> <key>"; "" for the first
--
-- A key that housekeeping has trimmed since comes later in this order. If the last key of the page before has moved or
-- is gone, all with its time come again.
--
-- Writes `mark`, so that a WAIT behind it waits for the emails of these keys too.
--
-- Returns { the time, where this page ended or "" if nothing follows, key, uses as in idem:<key>, key, uses, ... }.

local at, limit, first = now(), tonumber(ARGV[2]), 0
local start_time, start_key = unpack(words(ARGV[3]))
if start_key and call('ZSCORE', 'idem:expiry', start_key) == start_time then
  first = call('ZRANK', 'idem:expiry', start_key) + 1
elseif start_key then
  first = call('ZCOUNT', 'idem:expiry', '-inf', '(' .. start_time)
end
-- One more than this page holds shows whether another follows.
local found = call('ZRANGE', 'idem:expiry', first, first + limit, 'WITHSCORES')
local has_more = #found > 2 * limit
local reply = { at, has_more and found[2 * limit] .. ' ' .. found[2 * limit - 1] or '' }
for i = 1, math.min(#found, 2 * limit), 2 do
  append(reply, found[i], call('GET', 'idem:' .. found[i]) or '')
end
call('SET', 'mark', text(at))
return reply
