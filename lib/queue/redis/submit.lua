-- submit: queues the emails of one group commit.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3] number of emails, n
-- then two for each email: id, text
-- then three for each email with an idempotency key: its place among the emails, from 1, the key, the fingerprint
--
-- Every place where an id may be known is looked into, at the first try too: a try held up on the way may be
-- executed after its repeat, when the email has long been sent. One command serves a whole group, since a command
-- costs more than what it does.
--
-- Returns, for each email that was not simply queued, its place and what became of it: "k" known, "k <id>" known
-- under the first submission's id, "c" the key belongs to another email.

local at = now()
local life, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local idem = {}
for i = 4 + 2 * count, #ARGV, 3 do
  idem[tonumber(ARGV[i])] = { key = ARGV[i + 1], fingerprint = ARGV[i + 2] }
end

local ids = {}
for i = 1, count do
  ids[i] = ARGV[2 + 2 * i]
end
local waiting = redis.call('HMGET', key('emails'), unpack(ids))
local sent = redis.call('HMGET', key('sent'), unpack(ids))

-- What a key says of an email that is not known by its id: answered before, or a little earlier in this group.
local keyed = {}
local function held_by(one)
  local first, fingerprint = unpack(keyed[one.key] or {})
  local held = not first and redis.call('GET', key('idem:' .. one.key))
  if held then
    local expires
    expires, first, fingerprint = unpack(words(held))
    if tonumber(expires) <= at then
      return nil
    end
  end
  return first and (fingerprint == one.fingerprint and 'k ' .. first or 'c')
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
      keyed[one.key] = { id, one.fingerprint }
    end
  end
end

if #emails == 0 then
  redis.call('SET', key('mark'), stamp)
  return replies
end
-- In this order: were a command to fail, an email without a place in due would be known and never sent, and so
-- would one whose key is known.
redis.call('ZADD', key('due'), unpack(due))
redis.call('HSET', key('emails'), unpack(emails))
for name, held in pairs(keyed) do
  redis.call('SET', key('idem:' .. name), text(at + life) .. ' ' .. held[1] .. ' ' .. held[2], 'PX', text(life))
end
wake()
return replies
