-- submit: queues the emails of one group commit.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3] number of emails, n
-- then two for each email: id, text
-- then four for each email with an idempotency key: its place among the emails, from 1, the key, the fingerprint, the
-- token or "-"
--
-- Every place where an id may be known is looked into, at the first try too: a try held up on the way may be
-- executed after its repeat, when the email has long been sent. One command serves a whole group, since a command
-- costs more than what it does.
--
-- A key that is there is valid: only housekeeping removes it, since the clock may be wrong.
--
-- Returns, for each email that was not simply queued, its place and what became of it: "k" known, "k <id>" known
-- under the first submission's id, "c" this token used the key for another email.

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
local waiting = redis.call('HMGET', key('emails'), unpack(ids))
local sent = redis.call('HMGET', key('sent'), unpack(ids))

-- The uses of a key, four words each, as stored and with those of this group. One that an older release wrote has three,
-- and expires by itself until it is written anew.
local keyed = {}
local function uses_of(name)
  if not keyed[name] then
    local uses = words(redis.call('GET', key('idem:' .. name)) or '')
    keyed[name] = { uses = uses, is_new = #uses <= 3 }
  end
  return keyed[name]
end

local function use(one, expires, id)
  local held = uses_of(one.key)
  local uses = held.uses
  -- An older release wrote one, without a token.
  if #uses == 3 then
    uses[4] = '*'
  end
  for _, word in ipairs({ expires, id, one.fingerprint, one.token }) do
    uses[#uses + 1] = word
  end
  held.is_changed = true
end

-- What a key says of an email that is not known by its id: answered before, or a little earlier in this group.
local function held_by(one)
  local uses, first, expires, is_mine = uses_of(one.key).uses, nil, nil, false
  for i = 1, #uses, 4 do
    local token = uses[i + 3] or '*'
    local is_same = uses[i + 2] == one.fingerprint
    if is_same and not first then
      expires, first = uses[i], uses[i + 1]
    end
    -- Nobody knows whose an older one was.
    if token == one.token or (token == '*' and not is_same) then
      is_mine = true
    end
  end
  if first then
    if not is_mine then
      use(one, expires, first)
    end
    return 'k ' .. first
  end
  return is_mine and 'c' or nil
end

local replies, emails, due, stamp, taken = {}, {}, {}, text(at), {}
for i = 1, count do
  local id, one = ids[i], idem[i]
  local known = (waiting[i] or sent[i] or taken[id]) and 'k' or (one and held_by(one))
  if known then
    replies[#replies + 1] = i
    replies[#replies + 1] = known
  else
    taken[id] = true
    emails[#emails + 1] = id
    emails[#emails + 1] = stamp .. '\n' .. ARGV[3 + 2 * i]
    due[#due + 1] = stamp
    due[#due + 1] = id
    if one then
      use(one, text(at + life), id)
    end
  end
end

-- In this order: were a command to fail, an email without a place in due would be known and never sent, and so
-- would one whose key is known. A key with no place in its expiry would stay for ever.
if #emails > 0 then
  redis.call('ZADD', key('due'), unpack(due))
  redis.call('HSET', key('emails'), unpack(emails))
end
local expiries, is_written = {}, #emails > 0
for name, held in pairs(keyed) do
  if held.is_new and held.is_changed then
    expiries[#expiries + 1] = held.uses[1]
    expiries[#expiries + 1] = name
  end
end
if #expiries > 0 then
  redis.call('ZADD', key('idem:expiry'), unpack(expiries))
end
for name, held in pairs(keyed) do
  if held.is_changed then
    redis.call('SET', key('idem:' .. name), table.concat(held.uses, ' '))
    is_written = true
  end
end
if not is_written then
  redis.call('SET', key('mark'), stamp)
end
if #emails > 0 then
  wake()
end
return replies
