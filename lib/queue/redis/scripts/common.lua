-- common: the beginning of every script; scripts.ts inserts it behind the first line of each file.
--
-- KEYS[1] partition      the one hash tag of all its keys, such as {reliable-email:0}
-- ARGV[1] clock offset   ms added to Redis's clock; 0 except in tests
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

local redis_call = redis.call

-- Runs a command of Redis on one key of the partition.
local function call(command, name, ...)
  return redis_call(command, key(name), ...)
end

local format = call('GET', 'format')
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

-- A time or a count as Redis stores it: without fraction or exponent.
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

local function append(list, first, second)
  local length = #list
  list[length + 1] = first
  list[length + 2] = second
end

-- A whole hash.
local function hash(name)
  local all, h = call('HGETALL', name), {}
  for i = 1, #all, 2 do
    h[all[i]] = all[i + 1]
  end
  return h
end

-- All fields of a batch, marks included.
local function record(batch)
  return hash('batch:' .. batch)
end

-- Some fields of a batch.
local function fields(batch, ...)
  local values, b = call('HMGET', 'batch:' .. batch, ...), {}
  for i, name in ipairs({ ... }) do
    b[name] = values[i] or nil
  end
  return b
end

-- Nobody holds a batch: its lease expired, or was settled.
local function is_free(b, at)
  return b.held ~= '1' or tonumber(b['until']) <= at
end

-- Emails leave the queue: id, value, id, value, … Their ids stay known until `expiry`. One command serves all of them,
-- since its fixed cost exceeds that of its work. What they become is written before what they were is removed: if a
-- command fails, no email is lost.
local function to_sent(leaving, expiry)
  if #leaving == 0 then
    return
  end
  local ids, expiries, stamp, length = {}, {}, text(expiry), #leaving
  for i = 1, length, 2 do
    ids[(i + 1) / 2] = leaving[i]
    expiries[i], expiries[i + 1] = stamp, leaving[i]
  end
  call('ZADD', 'sent:expiry', unpack(expiries))
  call('HSET', 'sent', unpack(leaving))
  call('HDEL', 'emails', unpack(ids))
  call('HDEL', 'histories', unpack(ids))
  call('HDEL', 'members', unpack(ids))
  call('ZREM', 'doubtful', unpack(ids))
end

-- Deletes emails that are in no batch; their ids stay known. The caller removes them from their lists.
local function delete(ids, expiry)
  local leaving, deleted = {}, {}
  for _, id in ipairs(ids) do
    append(leaving, id, '-\n')
    append(deleted, text(expiry), id)
  end
  call('ZADD', 'deleted', unpack(deleted))
  to_sent(leaving, expiry)
end

-- The names of all lists of emails that may be claimed, in the same order each time.
local function due_names()
  local names = { 'due' }
  for _, provider in ipairs(call('SMEMBERS', 'providers')) do
    names[#names + 1] = 'due:' .. provider
  end
  for _, split in ipairs(call('SMEMBERS', 'splits')) do
    names[#names + 1] = 'split:' .. split
  end
  table.sort(names)
  return names
end

-- Removes emails that are in no batch from every list.
local function unlist(...)
  for _, name in ipairs(due_names()) do
    call('ZREM', name, ...)
  end
  call('ZREM', 'dead', ...)
end

-- How many entries of a list precede a time and an entry, whether or not that entry is still there.
local function rank_of(name, time, entry)
  local low = call('ZCOUNT', name, '-inf', '(' .. text(time))
  local high = call('ZCOUNT', name, '-inf', text(time))
  -- The ids are hexadecimal digits, which Lua compares as Redis does, in every locale.
  while low < high do
    local middle = math.floor((low + high) / 2)
    if call('ZRANGE', name, middle, middle)[1] < entry then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Wakes workers that have found nothing.
local function wake()
  if call('DEL', 'idle') == 1 then
    call('PUBLISH', 'wake', '')
  end
end

local function drop_batch(batch, provider)
  call('DEL', 'batch:' .. batch)
  for _, name in ipairs({ 'batches:' .. provider, 'ends', 'leases', 'leases:doubtful' }) do
    call('ZREM', name, batch)
  end
end

-- A batch is in doubt from now on, for the rest of its life. `ids` are the emails that it still holds.
local function enter_doubt(batch, ids, at)
  local since = {}
  for _, id in ipairs(ids) do
    append(since, text(at), id)
  end
  call('HSET', 'batch:' .. batch, 'doubt', text(at))
  call('ZADD', 'doubtful', unpack(since))
  call('ZREM', 'leases', batch)
end

-- The findings of housekeeping.
local function housekeeping()
  local h = hash('housekeeping')
  h.epoch, h.served, h.credentials = h.epoch or '0', h.served or '', h.credentials or ' '
  return h
end

-- When the clock stepped last and by how much; nothing after an hour.
local function last_step(h, at)
  if h.step_at and math.abs(at - h.step_at) <= hour then
    return tonumber(h.step_at), tonumber(h.step_by)
  end
end
