#!lua
-- submit: queues the emails of one group commit. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3] the `idempotency` of each Submission of contract.ts, or false, JSON
-- ARGV[4] JSON: for each email false, or if it is hidden, its sendAtMs if it has one, and the pieces and bytes of its files if
--         it has any. "" if none is
-- ARGV[5] most bytes of files of all emails in the partition, or ""
-- then two for each email: id, text
--
-- Every id is looked up wherever it may be known, at the first attempt too: an attempt that was delayed on its way may
-- be executed after its repetition, when the email has long been sent. A key that is present is valid: only
-- housekeeping removes it, since the clock may be wrong. One command serves a whole group, since its fixed cost exceeds
-- that of its work.
--
-- Returns, for each email that was not simply queued, its number and the id under which it is known; "" if this token
-- used the key for another email; "moving" if its key is new and the queue is being moved; "full" if its files would exceed
-- the limit; "missing" if pieces of its files are missing.

local at, life, idempotency = now(), tonumber(ARGV[2]), cjson.decode(ARGV[3])
local ids = {}
for i = 6, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local waiting = call('HMGET', 'emails', unpack(ids))
local sent = call('HMGET', 'sent', unpack(ids))

-- The uses of a key, four words each, as stored and with those of this group.
local keyed = {}
local function uses_of(name)
  if not keyed[name] then
    keyed[name] = { uses = words(call('GET', 'idem:' .. name) or '') }
  end
  return keyed[name]
end

local function use(one, expires, id)
  local held = uses_of(one.key)
  append(held.uses, expires, id)
  append(held.uses, one.fingerprint, one.token)
  held.is_changed = true
end

-- The reply to an email whose key was used before, or a little earlier in this group; nothing if it is to be queued.
local function used_before(one)
  local uses, same, is_mine = uses_of(one.key).uses, nil, false
  one.token = one.token ~= '' and one.token or '-'
  for i = 1, #uses, 4 do
    same = same or (uses[i + 2] == one.fingerprint and i)
    is_mine = is_mine or uses[i + 3] == one.token
  end
  if not same then
    return is_mine and '' or nil
  end
  local expires, first = uses[same], uses[same + 1]
  if not is_mine then
    use(one, expires, first)
  end
  return first
end

local hidden, files_max = ARGV[4] ~= '' and cjson.decode(ARGV[4]) or {}, tonumber(ARGV[5])

-- Why an email cannot be stored with its files; nil if it can.
local files, file_bytes = {}, nil
local function files_refused(id, extra)
  file_bytes = file_bytes or tonumber(call('GET', 'sizes:total') or '0')
  if files_max and file_bytes + extra.bytes > files_max then
    return 'full'
  elseif not has_files(id, extra.pieces) then
    return 'missing'
  end
  file_bytes = file_bytes + extra.bytes
  append(files, id, extra.bytes)
end

local replies, emails, due, hidden_due, scheduled, stamp, taken = {}, {}, {}, {}, {}, text(at), {}
local expiries, later_expiries, is_repeated = {}, {}, false
for i, id in ipairs(ids) do
  local one, extra = idempotency[i], hidden[i]
  local known = (waiting[i] or sent[i] or taken[id]) and id or (one and used_before(one))
  is_repeated = is_repeated or known
  local answer = known or (one and is_moving() and 'moving') or (extra and extra.pieces and files_refused(id, extra))
  if answer then
    append(replies, i, answer)
  else
    taken[id] = true
    append(emails, id, stamp .. '\n' .. ARGV[5 + 2 * i])
    local sends_at = extra and extra.sendAtMs or at
    local is_ahead = sends_at > at
    append(is_ahead and scheduled or extra and hidden_due or due, is_ahead and text(sends_at) or stamp, id)
    if one then
      local expires = text(math.max(at, sends_at) + life)
      local is_first = #uses_of(one.key).uses == 0
      append(is_ahead and later_expiries or expiries, expires, is_first and one.key or one.key .. ' ' .. one.token)
      use(one, expires, id)
    end
  end
end

local function add_to(name, entries)
  if #entries > 0 then
    call('ZADD', name, unpack(entries))
  end
end

-- The order matters if a command fails: an email that is known, or whose key is known, must be in a list, or it would never
-- be sent; and a key without an expiry would stay forever.
if #hidden_due + #scheduled > 0 then
  mark_hidden()
end
for i = 1, #files, 2 do
  keep_files(files[i], files[i + 1])
end
add_to('due', due)
add_to('due:+', hidden_due)
add_to('scheduled', scheduled)
if #emails > 0 then
  call('HSET', 'emails', unpack(emails))
end
add_to('idem:expiry', expiries)
add_to('idem:scheduled', later_expiries)
local is_written = #emails > 0
for name, held in pairs(keyed) do
  if held.is_changed then
    call('SET', 'idem:' .. name, table.concat(held.uses, ' '))
    is_written = true
  end
end
if is_repeated and not is_written then
  call('SET', 'mark', stamp)
end
if #emails > 0 then
  wake()
end
return replies
