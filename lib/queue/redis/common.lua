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
--   leases            ZSET  batch -> lease end, Unix ms; those that are leased and were never in doubt
--   doubtful          ZSET  id -> since when the batch that holds it is in doubt, Unix ms
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
--   condition:<provider> HASH accepted (when it last did, Unix ms), failing (since when, without an acceptance; not
--                           there while it works), failed (when it last did), reason
--   counters          HASH  name -> count
--   idle              STRING set by a claim that found nothing, cleared by the submission that wakes
--   paused            STRING since when an operator has stopped all claims, Unix ms; not there while they are not
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
  redis.call('ZREM', key('doubtful'), unpack(ids))
  redis.call('HSET', key('sent'), unpack(leaving))
  redis.call('ZADD', key('sent:expiry'), unpack(expiries))
end

local function mark_of(batch, id)
  return redis.call('HGET', key('batch:' .. batch), 'mark:' .. id)
end

-- All lists of what may be taken.
local function due_lists()
  local lists = { key('due') }
  for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
    lists[#lists + 1] = key('due:' .. provider)
  end
  return lists
end

-- Emails that are in no batch leave every list.
local function unlist(...)
  for _, list in ipairs(due_lists()) do
    redis.call('ZREM', list, ...)
  end
  redis.call('ZREM', key('dead'), ...)
end

-- Of emails that are in no batch and in no list nothing is left but the id, for a while.
local function delete(ids, expiry)
  local leaving, deleted = {}, {}
  for _, id in ipairs(ids) do
    leaving[#leaving + 1] = id
    leaving[#leaving + 1] = '-\n'
    deleted[#deleted + 1] = text(expiry)
    deleted[#deleted + 1] = id
  end
  to_sent(leaving, expiry)
  redis.call('ZADD', key('deleted'), unpack(deleted))
end

-- Something is due for workers that have found nothing.
local function wake()
  if redis.call('DEL', key('idle')) == 1 then
    redis.call('PUBLISH', key('wake'), '')
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
  redis.call('ZREM', key('leases'), batch)
end

-- A batch is in doubt from now on, for the rest of its life. `ids` are what is left in it.
local function enter_doubt(batch, ids, at)
  local since = {}
  for _, id in ipairs(ids) do
    since[#since + 1] = text(at)
    since[#since + 1] = id
  end
  redis.call('HSET', key('batch:' .. batch), 'doubt', text(at))
  redis.call('ZADD', key('doubtful'), unpack(since))
  redis.call('ZREM', key('leases'), batch)
end

-- Leases a batch to the claim that asks. A lease that ran out without a settlement is doubt from now on.
local function lease(batch, at, lease_ms, doubt_ms, claim)
  local b = fields(batch, 'provider', 'lease', 'held', 'ends', 'doubt', 'ids')
  local provider, number, ends, doubt = b[1], b[2] + 1, b[4], b[5]
  local lapsed = b[3] == '1'
  if lapsed and not doubt then
    enter_doubt(batch, words(b[6]), at)
  elseif not doubt then
    redis.call('ZADD', key('leases'), text(at + lease_ms), batch)
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

-- Nobody holds a batch: its lease ran out, or was settled.
local function is_free(held, lease_end, at)
  return held ~= '1' or tonumber(lease_end) <= at
end

-- What is told of a batch to whoever leased it: a flat list, read by batch.ts.
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
