-- common: what every script of the queue begins with, put before each by script.ts.
--
-- KEYS[1] partition      the one hash tag of all its keys, such as {reliable-email:0}
-- ARGV[1] clock offset   ms added to Redis's clock; 0 but in tests
--
-- The keys of a partition, each behind "<partition>:":
--   emails            HASH  id -> "<submitted at, Unix ms>\n<text>"; all that are not sent or deleted
--   histories         HASH  id -> history, opaque
--   due               ZSET  id -> time from which any provider may take it, Unix ms
--   due:<provider>    ZSET  the same, for what only that provider may take
--   batches:<provider> ZSET batch -> lease end or next try, Unix ms
--   unbegun:<provider> ZSET batch -> when it was split off, Unix ms; those not claimed since
--   batch:<id>        HASH  provider, ids (space-separated), lease (a count), held (1 while leased), until (lease
--                           end), ends (end of doubt), doubt (since), lapsed, context, notes; and a field
--                           "mark:<email id>" -> "<batch>\n<remains>" for what was accepted meanwhile
--   members           HASH  id -> the batch that holds it
--   ends              ZSET  batch -> end of doubt, Unix ms; batches begun at least once, of all providers
--   dead              ZSET  id -> when it died, Unix ms
--   sent              HASH  id -> "<batch>\n<remains>"; "-\n" for a deleted email. What remains of an email is
--                           "<envelope line>\n<record>"
--   sent:expiry       ZSET  id -> when its entry in sent may go, Unix ms
--   deleted           ZSET  id -> the same, for the deleted ones alone
--   idem:<key>        STRING "<expires at, Unix ms> <id> <fingerprint>"
--   claim:<id>        STRING "<batch> <lease>": what a claim was answered; for two leases, and 10 minutes at least,
--                           since a copy held up on the way must not be taken for a new one
--   providers         SET   every provider that ever had a batch or a due list of its own
--   counters          HASH  name -> count
--   idle              STRING set by a claim that found nothing, cleared by the submission that wakes
--   mark              STRING written so that WAIT has a write to wait for
--   format            STRING the store's format number

local function key(name)
  return KEYS[1] .. ':' .. name
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
end

-- Lua would write a time as 1.7637e+12.
local function text(number)
  return string.format('%d', number)
end

local function words(line)
  local list = {}
  for word in string.gmatch(line, '%S+') do
    list[#list + 1] = word
  end
  return list
end

local function batch_of(value)
  return string.match(value, '^[^\n]*')
end

local function fields(batch, ...)
  return redis.call('HMGET', key('batch:' .. batch), ...)
end

-- All fields of a batch, marks included.
local function record(batch)
  local all, b = redis.call('HGETALL', key('batch:' .. batch)), {}
  for i = 1, #all, 2 do
    b[all[i]] = all[i + 1]
  end
  return b
end

-- Emails leave the queue: id, value, id, value, … Their ids stay known until `expiry`. A command costs more than
-- what it does, so that one serves all of them.
local function to_sent(leaving, expiry)
  if #leaving == 0 then
    return
  end
  local ids, expiries = {}, {}
  for i = 1, #leaving, 2 do
    ids[#ids + 1] = leaving[i]
    expiries[#expiries + 1] = text(expiry)
    expiries[#expiries + 1] = leaving[i]
  end
  redis.call('HDEL', key('emails'), unpack(ids))
  redis.call('HDEL', key('histories'), unpack(ids))
  redis.call('HDEL', key('members'), unpack(ids))
  redis.call('HSET', key('sent'), unpack(leaving))
  redis.call('ZADD', key('sent:expiry'), unpack(expiries))
end

local function mark_of(batch, id)
  return redis.call('HGET', key('batch:' .. batch), 'mark:' .. id)
end

-- An email that is in no batch leaves every list.
local function unlist(id)
  redis.call('ZREM', key('due'), id)
  redis.call('ZREM', key('dead'), id)
  for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
    redis.call('ZREM', key('due:' .. provider), id)
  end
end

-- Forgets at most `limit` ids whose time is over.
local function expire(at, limit)
  local ids = redis.call('ZRANGEBYSCORE', key('sent:expiry'), '-inf', text(at), 'LIMIT', 0, limit)
  if #ids > 0 then
    redis.call('ZREM', key('sent:expiry'), unpack(ids))
    redis.call('ZREM', key('deleted'), unpack(ids))
    redis.call('HDEL', key('sent'), unpack(ids))
  end
end

local function drop_batch(batch, provider)
  redis.call('DEL', key('batch:' .. batch))
  redis.call('ZREM', key('batches:' .. provider), batch)
  redis.call('ZREM', key('unbegun:' .. provider), batch)
  redis.call('ZREM', key('ends'), batch)
end

-- Leases a batch to the claim that asks. A lease that ran out without a settlement is doubt from now on.
local function lease(batch, at, lease_ms, doubt_ms, claim)
  local b = fields(batch, 'provider', 'lease', 'held', 'ends', 'doubt')
  local provider, number, ends, doubt = b[1], b[2] + 1, b[4], b[5]
  local lapsed = b[3] == '1'
  if lapsed and not doubt then
    doubt = text(at)
    redis.call('HSET', key('batch:' .. batch), 'doubt', doubt)
  end
  if not ends then
    ends = text(at + doubt_ms)
    redis.call('ZADD', key('ends'), ends, batch)
  end
  redis.call('HSET', key('batch:' .. batch), 'lease', number, 'held', '1', 'until', text(at + lease_ms),
    'ends', ends, 'lapsed', lapsed and '1' or '0')
  redis.call('ZADD', key('batches:' .. provider), text(at + lease_ms), batch)
  redis.call('ZREM', key('unbegun:' .. provider), batch)
  redis.call('SET', key('claim:' .. claim), batch .. ' ' .. number, 'PX', text(math.max(2 * lease_ms, 600000)))
end

-- What the worker is told of a batch that it holds: a flat list, read by work.ts.
local function leased(batch, at)
  local b = record(batch)
  local ids = words(b.ids)
  local emails = redis.call('HMGET', key('emails'), unpack(ids))
  local histories = redis.call('HMGET', key('histories'), unpack(ids))
  local reply = { 'batch', batch, b.provider, b.lease, text(at), b['until'], b.ends, b.doubt or '', b.lapsed,
    b.context or '', b.notes or '' }
  for i, id in ipairs(ids) do
    reply[#reply + 1] = id
    reply[#reply + 1] = emails[i] or ''
    reply[#reply + 1] = histories[i] or ''
    reply[#reply + 1] = b['mark:' .. id] and 1 or 0
  end
  return reply
end

-- The answer to a claim that was answered before: the same batch, while it is still leased under it.
local function claimed_before(claim, at)
  local answered = redis.call('GET', key('claim:' .. claim))
  if not answered then
    return nil
  end
  redis.call('SET', key('mark'), text(at))
  local batch, number = unpack(words(answered))
  local b = fields(batch, 'lease', 'held', 'until')
  if b[1] == number and b[2] == '1' and tonumber(b[3]) > at then
    return leased(batch, at)
  end
  return { 'spent' }
end
