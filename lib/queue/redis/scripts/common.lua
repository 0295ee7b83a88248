-- common: what every script of the queue begins with, put before each by scripts.ts.
--
-- KEYS[1] partition      the one hash tag of all its keys, such as {reliable-email:0}
-- ARGV[1] clock offset   ms added to Redis's clock; 0 but in tests
--
-- The keys of a partition, each behind "<partition>:":
--   emails            HASH  id -> "<submitted at, Unix ms>\n<text>"; all that are not sent or deleted
--   histories         HASH  id -> history, opaque
--   due               ZSET  id -> time from which any provider may take it, Unix ms
--   due:<provider>    ZSET  the same, for what only that provider may take
--   split:<n>         ZSET  id -> time from which any provider may take it, in a batch of at most n, Unix ms
--   split:<n>:<provider> ZSET the same, for what only that provider may take
--   splits            SET   "<n>" or "<n>:<provider>" of each such list; one that is empty may still be named
--   batches:<provider> ZSET batch -> lease end or next try, Unix ms
--   unbegun:<provider> ZSET batch -> when an older release split it off, Unix ms; those not claimed since
--   batch:<id>        HASH  provider, ids (space-separated), lease (a count), held (1 while leased), until (lease
--                           end), length (of that lease, ms), began, ends (of doubt), epoch and net (the steps of the
--                           clock that both allow for: their number, and the sum of those since it began, ms), doubt
--                           (since), lapsed, context, notes, credential, piece (n of its split list); and a field
--                           "mark:<email id>" -> "<batch>\n<remains>" for what was accepted meanwhile
--   members           HASH  id -> the batch that holds it
--   leases            ZSET  batch -> lease end, Unix ms; those that are leased and were never in doubt
--   leases:doubtful   ZSET  batch -> lease end, Unix ms; those that are leased and in doubt
--   doubtful          ZSET  id -> since when the batch that holds it is in doubt, Unix ms
--   ends              ZSET  batch -> end of doubt, Unix ms; batches begun at least once, of all providers
--   dead              ZSET  id -> when it died, Unix ms
--   sent              HASH  id -> "<batch>\n<remains>"; "-\n" for a deleted email. What remains of an email is
--                           "<envelope line>\n<record>"
--   sent:expiry       ZSET  id -> when its entry in sent may go, Unix ms
--   deleted           ZSET  id -> the same, for the deleted ones alone
--   idem:<key>        STRING "<expires at, Unix ms> <id> <fingerprint> <token or ->" for each token that used the key,
--                           separated by spaces; an older release writes one use, without a token
--   idem:expiry       ZSET  key -> when the first of its uses expires, Unix ms
--   claimants         HASH  claimant -> "<number> <batch or -> <lease> <at, Unix ms>": its last claim
--   claimants:seen    ZSET  claimant -> when it was last heard of, Unix ms, give or take a minute
--   providers         SET   every provider that ever had a batch or a due list of its own
--   condition:<provider> HASH accepted (when it last did, Unix ms), failing (since when, without an acceptance; not
--                           there while it works), failed (when it last did), reason, unanswered (1 if that failure
--                           came without an answer of its own)
--   acceptances       HASH  "<provider> <credential>" -> emails accepted so far
--   workers           HASH  worker -> "<at, Unix ms> <retry max, ms> <search wait, ms>", then for each of its providers
--                           " <provider> <credential> <1 if new emails are handed to it, else 0>"
--   served            HASH  provider -> when a worker last said that it hands new emails to it, Unix ms
--   housekeeping      HASH  what housekeeping found, for all scripts: swept (when it last did, give or take 20 s),
--                           served (" <provider> …"), credentials (" <provider>:<credential> …" of live workers);
--                           of steps of the clock: epoch (their number), steps ("<epoch>:<ms> …", the last ones;
--                           "?" behind one that no worker saw),
--                           step_at and step_by (the last one), expires_from and ends_from (until then nothing expires,
--                           and no doubt ends), walk (how far ends were corrected since, from the latest)
--   counters          HASH  name -> count
--   idle              STRING set by a claim that found nothing, cleared by the submission that wakes
--   paused            STRING since when an operator has stopped all claims, Unix ms; not there while they are not
--   mark              STRING written so that WAIT has a write to wait for
--   format            STRING the store's format number
--
-- Every script refuses a store of another format, and one without a format: it lost its data, or was never created.

local function key(name)
  return KEYS[1] .. ':' .. name
end

local format = redis.call('GET', key('format'))
if not format then
  return redis.error_reply('NOQUEUE there is no queue, or it has lost its data')
elseif format ~= '1' then
  return redis.error_reply('FORMAT ' .. format)
end

-- A clock that is slewed moves less than this between two sweeps, ms.
local step_min = 2000
local hour = 3600000

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
-- what it does, so that one serves all of them. What they become is written before what they were is removed: should a
-- command fail, none is lost.
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
  redis.call('ZADD', key('sent:expiry'), unpack(expiries))
  redis.call('HSET', key('sent'), unpack(leaving))
  redis.call('HDEL', key('emails'), unpack(ids))
  redis.call('HDEL', key('histories'), unpack(ids))
  redis.call('HDEL', key('members'), unpack(ids))
  redis.call('ZREM', key('doubtful'), unpack(ids))
end

local function mark_of(batch, id)
  return redis.call('HGET', key('batch:' .. batch), 'mark:' .. id)
end

-- The names of all lists of what may be taken, in the same order each time.
local function due_names()
  local names = { 'due' }
  for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
    names[#names + 1] = 'due:' .. provider
  end
  for _, split in ipairs(redis.call('SMEMBERS', key('splits'))) do
    names[#names + 1] = 'split:' .. split
  end
  table.sort(names)
  return names
end

-- Emails that are in no batch leave every list.
local function unlist(...)
  for _, name in ipairs(due_names()) do
    redis.call('ZREM', key(name), ...)
  end
  redis.call('ZREM', key('dead'), ...)
end

-- Deletes emails that are in no batch; their ids stay known. The caller removes them from their lists.
local function delete(ids, expiry)
  local leaving, deleted = {}, {}
  for _, id in ipairs(ids) do
    leaving[#leaving + 1] = id
    leaving[#leaving + 1] = '-\n'
    deleted[#deleted + 1] = text(expiry)
    deleted[#deleted + 1] = id
  end
  redis.call('ZADD', key('deleted'), unpack(deleted))
  to_sent(leaving, expiry)
end

-- Something is due for workers that have found nothing.
local function wake()
  if redis.call('DEL', key('idle')) == 1 then
    redis.call('PUBLISH', key('wake'), '')
  end
end

local function drop_batch(batch, provider)
  redis.call('DEL', key('batch:' .. batch))
  redis.call('ZREM', key('batches:' .. provider), batch)
  redis.call('ZREM', key('unbegun:' .. provider), batch)
  redis.call('ZREM', key('ends'), batch)
  redis.call('ZREM', key('leases'), batch)
  redis.call('ZREM', key('leases:doubtful'), batch)
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

-- Nobody holds a batch: its lease ran out, or was settled.
local function is_free(held, lease_end, at)
  return held ~= '1' or tonumber(lease_end) <= at
end

-- The findings of housekeeping that a claim needs.
local function housekeeping()
  local values = redis.call('HMGET', key('housekeeping'), 'epoch', 'steps', 'step_at', 'step_by', 'served', 'credentials')
  return { epoch = values[1] or '0', steps = values[2] or '', step_at = values[3], step_by = values[4],
    served = values[5] or '', credentials = values[6] or ' ' }
end

-- The last step of the clock, for an hour.
local function last_step(h, at)
  if h.step_at and math.abs(at - h.step_at) <= hour then
    return h.step_at, h.step_by
  end
  return '', ''
end

-- How far the end of a doubt moves when the steps of the clock since its batch began add up to `net`. A sum ahead is
-- believed. A sum back moves the end back, so that no key is used more than 23 h after its first request.
local function moved_by(net)
  return net < -step_min and net or 0
end

-- When a batch began and when its doubt ends, by the clock as it is now. Steps that cancel each other change nothing: the
-- clock was wrong for a while. But what nobody saw may have been time that passed, and cancels no step back before it.
-- A batch cannot have begun later than now.
local function corrected(b, at, h)
  local began, ends, epoch, net = tonumber(b.began), tonumber(b.ends), b.epoch, tonumber(b.net or '0')
  if began and epoch ~= h.epoch then
    local before = moved_by(net)
    for number, by, unseen in string.gmatch(h.steps, '(%d+):(%-?%d+)(%??)') do
      if tonumber(number) > tonumber(epoch) and (unseen == '' or net >= 0) then
        net = net + by
      end
    end
    local move = moved_by(net) - before
    began, ends, epoch = began + move, ends + move, h.epoch
  end
  if began and began > at + step_min then
    began, ends = at, ends - (began - at)
  end
  local latest = at + 23 * hour
  if ends > latest + step_min then
    ends = latest
  end
  return { began = began and text(began), ends = text(ends), epoch = epoch, net = text(net) }
end

local function correct_ends(batch, b, at, h)
  local c = corrected(b, at, h)
  if c.ends ~= b.ends or c.epoch ~= b.epoch then
    redis.call('HSET', key('batch:' .. batch), 'ends', c.ends, 'began', c.began or '', 'epoch', c.epoch or '', 'net', c.net)
    redis.call('ZADD', key('ends'), c.ends, batch)
    b.began, b.ends, b.epoch, b.net = c.began, c.ends, c.epoch, c.net
  end
end

-- The emails of a batch, each with its time of submission and its text.
local function emails_of(ids)
  return #ids > 0 and redis.call('HMGET', key('emails'), unpack(ids)) or {}
end

-- The reply to a claim that leased a batch: its fields, then four values for each email. Read by batch_codec.ts.
local function lease_reply(batch, b, ids, emails, at, h, credential)
  local histories = redis.call('HMGET', key('histories'), unpack(ids))
  local acceptances = redis.call('HGET', key('acceptances'), b.provider .. ' ' .. (credential or b.credential or ''))
  local reply = { 'batch', { 'id', batch, 'provider', b.provider, 'lease', b.lease, 'now', text(at),
    'until', b['until'], 'ends', b.ends, 'doubt', b.doubt or '', 'lapsed', b.lapsed, 'context', b.context or '',
    'notes', b.notes or '', 'piece', b.piece or '', 'credential', b.credential or '',
    'acceptances', acceptances or '0', 'served', h.served, 'stepped', (last_step(h, at)) } }
  for i, id in ipairs(ids) do
    reply[#reply + 1] = id
    reply[#reply + 1] = emails[i] or ''
    reply[#reply + 1] = histories[i] or ''
    reply[#reply + 1] = b['mark:' .. id] and 1 or 0
  end
  return reply
end

-- Records a claim. `seen` is when its claimant was last heard of, if it ever was.
local function remember(claim, batch, lease, at, seen)
  redis.call('HSET', key('claimants'), claim.claimant, claim.number .. ' ' .. batch .. ' ' .. lease .. ' ' .. text(at))
  if not seen or math.abs(at - seen) > 60000 then
    redis.call('ZADD', key('claimants:seen'), text(at), claim.claimant)
  end
end

-- Leases a batch to a claim { claimant, number, lease_ms, doubt_ms, credential, seen }. `b` are its fields as they are
-- stored, or will be. A lease that ran out without a settlement is doubt from now on.
local function lease(batch, b, at, claim)
  local ids, bytes, h = words(b.ids), 0, housekeeping()
  local emails = emails_of(ids)
  for i = 1, #ids do
    bytes = bytes + #(emails[i] or '')
  end
  local length = claim.lease_ms + 1000 * math.floor(bytes / 262144)
  local lapsed = b.held == '1'
  -- Doubt cannot have begun later than now: no search would ever be late enough.
  if (lapsed and not b.doubt) or (b.doubt and tonumber(b.doubt) > at + step_min) then
    b.doubt = text(at)
    enter_doubt(batch, ids, at)
  end
  if b.lease == '0' and b.held then
    redis.call('ZREM', key('unbegun:' .. b.provider), batch)
  end
  if b.ends then
    correct_ends(batch, b, at, h)
  else
    b.began, b.epoch, b.ends = text(at), h.epoch, text(at + claim.doubt_ms)
    redis.call('ZADD', key('ends'), b.ends, batch)
  end
  b.lease, b.held, b['until'], b.length = text(b.lease + 1), '1', text(at + length), text(length)
  b.lapsed = lapsed and '1' or '0'
  redis.call('HSET', key('batch:' .. batch), 'lease', b.lease, 'held', '1', 'until', b['until'], 'length', b.length,
    'began', b.began or '', 'epoch', b.epoch or '', 'ends', b.ends, 'lapsed', b.lapsed)
  redis.call('ZADD', key('batches:' .. b.provider), b['until'], batch)
  redis.call('ZADD', key(b.doubt and 'leases:doubtful' or 'leases'), b['until'], batch)
  remember(claim, batch, b.lease, at, claim.seen)
  return lease_reply(batch, b, ids, emails, at, h, claim.credential)
end

-- The reply to a claim that was made before: the same batch while its lease lasts, else "spent". Nothing for a new claim,
-- nor for the last one if it found nothing: it may look again.
local function claimed_before(claim, at)
  local last = redis.call('HGET', key('claimants'), claim.claimant)
  if not last then
    return nil
  end
  local number, batch, lease_number, seen = unpack(words(last))
  claim.seen = tonumber(seen)
  if claim.number > tonumber(number) or (claim.number == tonumber(number) and batch == '-') then
    return nil
  end
  redis.call('SET', key('mark'), text(at))
  if claim.number == tonumber(number) then
    local b = record(batch)
    if b.lease == lease_number and not is_free(b.held, b['until'], at) then
      local ids = words(b.ids)
      return lease_reply(batch, b, ids, emails_of(ids), at, housekeeping(), claim.credential)
    end
  end
  return { 'spent' }
end

-- The condition of each provider: name, accepted, failing, failed, reason, unanswered; "" for what there is not.
local function conditions()
  local list = {}
  for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
    list[#list + 1] = provider
    local values = redis.call('HMGET', key('condition:' .. provider), 'accepted', 'failing', 'failed', 'reason',
      'unanswered')
    for i = 1, 5 do
      list[#list + 1] = values[i] or ''
    end
  end
  return list
end
