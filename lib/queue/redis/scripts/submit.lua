#!lua
-- submit: queues the emails of one group commit. Refused when memory is full, unlike all other scripts.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3] number of emails, n
-- then two for each email: id, text
-- then four for each email with an idempotency key: its number among the emails, from 1, the key, the fingerprint, the
-- token or "-"
--
-- Every id is searched for wherever it may be known, at the first try too: a try that was held up on the way may be
-- executed after its repeat, when the email has long been sent. One command serves a whole group, since its fixed cost
-- exceeds that of its work.
--
-- A key that is present is valid: only housekeeping removes it, since the clock may be wrong.
--
-- Returns, for each email that was not simply queued, its number and the id under which it is known; "" if this token
-- used the key for another email.

local at = now()
local life, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local idem = {}
for i = 4 + 2 * count, #ARGV, 4 do
  idem[tonumber(ARGV[i])] = { key = ARGV[i + 1], fingerprint = ARGV[i + 2], token = ARGV[i + 3] }
end

local ids = {}
for i = 1, count do
  ids[i] = ARGV[2 + 2 * i]
end
local waiting = call('HMGET', 'emails', unpack(ids))
local sent = call('HMGET', 'sent', unpack(ids))

-- The uses of a key, four words each, as stored and with those of this group. One that an older release wrote has three,
-- and expires by itself until it is written anew.
local keyed = {}
local function uses_of(name)
  if not keyed[name] then
    local uses = words(call('GET', 'idem:' .. name) or '')
    keyed[name] = { uses = uses, is_new = #uses <= 3 }
    -- An older release wrote no token.
    if #uses == 3 then
      uses[4] = '*'
    end
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
  local uses, first, expires, is_mine = uses_of(one.key).uses, nil, nil, false
  for i = 1, #uses, 4 do
    local token = uses[i + 3]
    local is_same = uses[i + 2] == one.fingerprint
    if is_same and not first then
      expires, first = uses[i], uses[i + 1]
    end
    -- "*" may have been any token.
    if token == one.token or (token == '*' and not is_same) then
      is_mine = true
    end
  end
  if first and not is_mine then
    use(one, expires, first)
  end
  return first or (is_mine and '' or nil)
end

local replies, emails, due, stamp, taken = {}, {}, {}, text(at), {}
for i = 1, count do
  local id, one = ids[i], idem[i]
  local known = (waiting[i] or sent[i] or taken[id]) and id or (one and used_before(one))
  if known then
    append(replies, i, known)
  else
    taken[id] = true
    local n = #due
    emails[n + 1], emails[n + 2] = id, stamp .. '\n' .. ARGV[3 + 2 * i]
    due[n + 1], due[n + 2] = stamp, id
    if one then
      use(one, text(at + life), id)
    end
  end
end

-- In this order: if a command failed, an email that is not in due would be known and never sent, and so would one whose
-- key is known. A key that is not in idem:expiry would stay for ever.
if #emails > 0 then
  call('ZADD', 'due', unpack(due))
  call('HSET', 'emails', unpack(emails))
end
local expiries, is_written = {}, #emails > 0
for name, held in pairs(keyed) do
  if held.is_new and held.is_changed then
    append(expiries, held.uses[1], name)
  end
end
if #expiries > 0 then
  call('ZADD', 'idem:expiry', unpack(expiries))
end
for name, held in pairs(keyed) do
  if held.is_changed then
    call('SET', 'idem:' .. name, table.concat(held.uses, ' '))
    is_written = true
  end
end
if not is_written then
  call('SET', 'mark', stamp)
end
if #emails > 0 then
  wake()
end
return replies
