#!lua
-- submit: queues the emails of one group commit. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3] the `idempotency` of each Submission of contract.ts, or false, JSON
-- then two for each email: id, text
--
-- Every id is looked up wherever it may be known, at the first attempt too: an attempt that was delayed on its way may
-- be executed after its repetition, when the email has long been sent. A key that is present is valid: only
-- housekeeping removes it, since the clock may be wrong. One command serves a whole group, since its fixed cost exceeds
-- that of its work.
--
-- Returns, for each email that was not simply queued, its number and the id under which it is known; "" if this token
-- used the key for another email; "moving" if its key is new and the queue is being moved.

local at, life, idempotency = now(), tonumber(ARGV[2]), cjson.decode(ARGV[3])
local ids = {}
for i = 4, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local waiting = call('HMGET', 'emails', unpack(ids))
local sent = call('HMGET', 'sent', unpack(ids))

-- The uses of a key, four words each, as stored and with those of this group.
local keyed = {}
local function uses_of(name)
  if not keyed[name] then
    local uses = words(call('GET', 'idem:' .. name) or '')
    keyed[name] = { uses = uses }
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

local replies, emails, due, expiries, stamp, taken = {}, {}, {}, {}, text(at), {}
for i, id in ipairs(ids) do
  local one = idempotency[i]
  local known = (waiting[i] or sent[i] or taken[id]) and id or (one and used_before(one))
  if known then
    append(replies, i, known)
  elseif one and is_moving() then
    append(replies, i, 'moving')
  else
    taken[id] = true
    append(emails, id, stamp .. '\n' .. ARGV[3 + 2 * i])
    append(due, stamp, id)
    if one then
      local is_first = #uses_of(one.key).uses == 0
      append(expiries, text(at + life), is_first and one.key or one.key .. ' ' .. one.token)
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
local is_written = #emails > 0
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
