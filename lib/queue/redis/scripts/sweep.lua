-- sweep: housekeeping of one worker, bounded, once a second.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long an id stays known, ms    ARGV[3] life of an idempotency key, ms
-- ARGV[4] this clock at the worker's last sweep, Unix ms, or "" at its first
-- ARGV[5] ms that have passed since then at least, by a clock that is never set
-- ARGV[6] the number of steps then          ARGV[7] a step ahead since then that the worker is sure of, ms, 0 for none, or "";
--                                           "wait": it has just started, and leaves a step to others
-- ARGV[8] worker    ARGV[9] longest that it delays an email, ms    ARGV[10] a batch in doubt, ms
-- ARGV[11…] then three for each of its providers: name, credential, 1 if new emails are handed to it, else 0
--
-- A script that was delayed on its way finds a later time than its worker could foresee, as after a step ahead. It then
-- changes nothing and says so. The worker knows when the reply came, decides which it was, and asks again.
--
-- Returns { now, number of steps, 1 if it did its work, else 0 and the sum of the steps that others have noted }.

local at = now()
local day = 24 * hour
local budget = 1000
local h = housekeeping()
local extra = redis.call('HMGET', key('housekeeping'), 'swept', 'expires_from', 'ends_from', 'walk')
local swept, expires_from, ends_from, walk = tonumber(extra[1]), tonumber(extra[2]), tonumber(extra[3]), extra[4]

local function keep(...)
  redis.call('HSET', key('housekeeping'), ...)
end

-- The clock

-- Records a step. A time without any worker may hide one: it may cancel a step back, but is not reported.
local ahead = 0
local function note_step(by, is_seen)
  ahead = math.max(0, by)
  h.epoch = text(h.epoch + 1)
  local steps = words(h.steps)
  steps[#steps + 1] = h.epoch .. ':' .. text(by) .. (is_seen and '' or '?')
  if #steps > 20 then
    table.remove(steps, 1)
  end
  h.steps = table.concat(steps, ' ')
  keep('epoch', h.epoch, 'steps', h.steps)
  if is_seen then
    keep('step_at', text(at), 'step_by', text(by))
  end
  if math.abs(by) > 60000 then
    expires_from = at + hour
    keep('expires_from', text(expires_from))
    if is_seen then
      ends_from = at + hour
      keep('ends_from', text(ends_from))
    end
  end
  walk = '+inf'
  keep('walk', walk)
end

-- What the steps add up to that others have noted since the worker's last sweep; nothing if that cannot be told.
local function noted_since(epoch)
  local sum, count = 0, 0
  for number, by, unseen in string.gmatch(h.steps, '(%d+):(%-?%d+)(%??)') do
    if tonumber(number) > tonumber(epoch) then
      if unseen ~= '' then
        return nil
      end
      sum, count = sum + by, count + 1
    end
  end
  return count == h.epoch - epoch and sum or nil
end

local noted = ARGV[4] ~= '' and noted_since(ARGV[6])
if noted then
  local drift = at - ARGV[4] - ARGV[5] - noted
  -- Others measure a step less exactly, and perhaps the one that this worker is asking about.
  local least = ARGV[6] == h.epoch and step_min or 60000
  if ARGV[7] ~= '' then
    if ARGV[6] == h.epoch and tonumber(ARGV[7]) > 0 then
      note_step(tonumber(ARGV[7]), true)
    end
  elseif drift > least then
    return { text(at), tonumber(h.epoch), 0, noted }
  elseif drift < -least then
    note_step(drift, true)
  end
elseif swept and at < swept - step_min then
  note_step(at - swept, true)
elseif swept and ARGV[4] == '' and at - swept > 60000 then
  if ARGV[7] == 'wait' then
    return { text(at), tonumber(h.epoch), 0 }
  end
  note_step(at - swept, false)
  ahead = 0
end
if not swept then
  -- The queue's first sweep: nobody can tell yet whether the clock was right when it stamped what there is.
  expires_from = at + hour
  keep('expires_from', text(expires_from))
end
if not swept or math.abs(at - swept) > 20000 or at < swept then
  keep('swept', text(at))
end
-- After a step back that nobody saw, an hour must not become a year.
if expires_from and expires_from > at + hour then
  expires_from = at + hour
  keep('expires_from', text(expires_from))
end
if ends_from and ends_from > at + hour then
  ends_from = at + hour
  keep('ends_from', text(ends_from))
end
local may_expire = not expires_from or expires_from <= at

-- Corrects the ends of doubt in a list of batches with their ends.
local function correct(entries)
  for i = 1, #entries, 2 do
    local values = fields(entries[i], 'began', 'ends', 'epoch', 'net')
    if values[2] then
      local b = { began = values[1], ends = values[2], epoch = values[3], net = values[4] or nil }
      correct_ends(entries[i], b, at, h)
    else
      redis.call('ZREM', key('ends'), entries[i])
    end
  end
end

correct(redis.call('ZREVRANGEBYSCORE', key('ends'), '+inf', text(at + 23 * hour + step_min), 'WITHSCORES',
  'LIMIT', 0, 100))
if walk then
  local entries = redis.call('ZREVRANGEBYSCORE', key('ends'), walk, '-inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  correct(entries)
  if #entries < 2000 then
    redis.call('HDEL', key('housekeeping'), 'walk')
  else
    keep('walk', entries[#entries])
  end
end

-- Presence

local function list_of(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return #names == 0 and ' ' or ' ' .. table.concat(names, ' ') .. ' '
end

local self, serves = { ARGV[9], ARGV[10] }, {}
for i = 11, #ARGV, 3 do
  for j = i, i + 2 do
    self[#self + 1] = ARGV[j]
  end
  if ARGV[i + 2] == '1' then
    serves[ARGV[i]] = true
  end
end
local own = table.concat(self, ' ')
local before = redis.call('HGET', key('workers'), ARGV[8])
local heard, own_before = string.match(before or '', '^(%d+) (.*)$')
if not heard or own_before ~= own or at - heard >= 20000 or at < tonumber(heard) then
  redis.call('HSET', key('workers'), ARGV[8], text(at) .. ' ' .. own)
  for provider in pairs(serves) do
    redis.call('HSET', key('served'), provider, text(at))
  end
end

local retry_max, search_wait, credentials = 0, 0, {}
local workers = redis.call('HGETALL', key('workers'))
for i = 1, #workers, 2 do
  local all = words(workers[i + 1])
  local age = at - all[1]
  -- Those who lived before the clock was set ahead live still.
  if age < 0 or (ahead > 0 and age - ahead <= 60000) then
    age = 0
    redis.call('HSET', key('workers'), workers[i], text(at) .. string.sub(workers[i + 1], #all[1] + 1))
  end
  if age <= 60000 then
    retry_max = math.max(retry_max, tonumber(all[2]))
    search_wait = math.max(search_wait, tonumber(all[3]))
    for j = 4, #all, 3 do
      credentials[all[j] .. ':' .. all[j + 1]] = true
    end
  elseif age > day and may_expire then
    redis.call('HDEL', key('workers'), workers[i])
  end
end

local served, times = {}, redis.call('HGETALL', key('served'))
for i = 1, #times, 2 do
  local age = at - times[i + 1]
  if age < 0 then
    redis.call('HSET', key('served'), times[i], text(at))
  end
  if age > day and may_expire then
    redis.call('HDEL', key('served'), times[i])
  else
    served[times[i]] = true
  end
end
local served_list, credential_list = list_of(served), list_of(credentials)
if served_list ~= h.served or credential_list ~= h.credentials then
  keep('served', served_list, 'credentials', credential_list)
end

-- Expiry

local function expire_ids()
  for _ = 1, 5 do
    local ids = redis.call('ZRANGEBYSCORE', key('sent:expiry'), '-inf', text(at), 'LIMIT', 0, 1000)
    if #ids == 0 then
      return
    end
    redis.call('HDEL', key('sent'), unpack(ids))
    redis.call('ZREM', key('deleted'), unpack(ids))
    redis.call('ZREM', key('sent:expiry'), unpack(ids))
  end
end

-- Drops the uses of a key whose time is over; none can last longer from now than a whole life.
local function trim(name)
  local uses = words(redis.call('GET', key('idem:' .. name)) or '')
  local left, first = {}, nil
  for i = 1, #uses, 4 do
    local expires = math.min(tonumber(uses[i]), at + tonumber(ARGV[3]))
    if expires > at then
      first = math.min(first or expires, expires)
      left[#left + 1] = text(expires)
      for j = i + 1, math.min(i + 3, #uses) do
        left[#left + 1] = uses[j]
      end
    end
  end
  if first then
    redis.call('SET', key('idem:' .. name), table.concat(left, ' '))
    redis.call('ZADD', key('idem:expiry'), text(first), name)
  else
    redis.call('DEL', key('idem:' .. name))
    redis.call('ZREM', key('idem:expiry'), name)
  end
end

local function from(name, least, most, limit)
  return redis.call('ZRANGEBYSCORE', key(name), least, most, 'LIMIT', 0, limit)
end

if may_expire then
  expire_ids()
  for _, name in ipairs(from('idem:expiry', '-inf', text(at), 1000)) do
    trim(name)
  end
  local claimants = from('claimants:seen', '-inf', text(at - day), 1000)
  for _, claimant in ipairs(claimants) do
    redis.call('HDEL', key('claimants'), claimant)
    redis.call('ZREM', key('claimants:seen'), claimant)
  end
end
redis.call('ZREMRANGEBYSCORE', key('leases:doubtful'), '-inf', text(at))

-- Impossible times

local restamped = 0

-- What was stamped under a clock that ran ahead is kept for its whole time from now on.
for _, id in ipairs(from('sent:expiry', text(at + ARGV[2] + 60000), '+inf', 1000)) do
  redis.call('ZADD', key('sent:expiry'), text(at + ARGV[2]), id)
end
for _, name in ipairs(from('idem:expiry', text(at + ARGV[3] + 60000), '+inf', 100)) do
  trim(name)
end
for _, claimant in ipairs(from('claimants:seen', text(at + 60000), '+inf', 100)) do
  redis.call('ZADD', key('claimants:seen'), text(at), claimant)
end

-- Due later than any worker puts off an email: due now.
local names = due_names()
for _, name in ipairs(names) do
  if restamped < budget then
    for _, id in ipairs(from(name, text(at + retry_max + 60000), '+inf', budget - restamped)) do
      redis.call('ZADD', key(name), text(at), id)
      restamped = restamped + 1
    end
  end
end

-- A lease cannot last longer than its length: it ends after that, from now on. Twice, or a clock that steps back a little
-- would change every lease.
local function shorten(batch, b)
  local ends, length = tonumber(b[2]), tonumber(b[3]) or hour
  if ends > at + 2 * length then
    local lease_end = text(at + length)
    redis.call('HSET', key('batch:' .. batch), 'until', lease_end)
    redis.call('ZADD', key('batches:' .. b[4]), lease_end, batch)
    redis.call('ZADD', key(b[5] and 'leases:doubtful' or 'leases'), lease_end, batch)
    restamped = restamped + 1
  end
end

for _, name in ipairs({ 'leases', 'leases:doubtful' }) do
  for _, batch in ipairs(redis.call('ZREVRANGEBYSCORE', key(name), '+inf', text(at), 'LIMIT', 0, 200)) do
    local b = fields(batch, 'held', 'until', 'length', 'provider', 'doubt')
    if b[1] == '1' then
      shorten(batch, b)
    else
      -- An older release settled it, or ended it.
      redis.call('ZREM', key(name), batch)
    end
  end
end

local batch_max = math.max(retry_max, search_wait) + 60000
local providers = redis.call('SMEMBERS', key('providers'))
for _, provider in ipairs(providers) do
  if restamped < budget then
    for _, batch in ipairs(from('batches:' .. provider, text(at + batch_max), '+inf', budget - restamped)) do
      local b = fields(batch, 'held', 'until', 'length', 'provider', 'doubt')
      if b[1] == '1' then
        shorten(batch, b)
      else
        redis.call('ZADD', key('batches:' .. provider), text(at), batch)
        restamped = restamped + 1
      end
    end
  end
end
if restamped > 0 then
  redis.call('HINCRBY', key('counters'), 'restamped', restamped)
  wake()
end

-- What nobody serves goes back to all: emails that only one provider may take, and batches that an older release split
-- off and nobody has begun. (Those that were begun are in doubt, and end so.)

local function give_back(name, shared)
  local only = redis.call('ZRANGE', key(name), 0, 99, 'WITHSCORES')
  for i = 1, #only, 2 do
    redis.call('ZADD', key(shared), only[i + 1], only[i])
    redis.call('ZREM', key(name), only[i])
  end
end

for _, name in ipairs(names) do
  local size, owner = string.match(name, '^split:(%d+):(.*)$')
  owner = owner or string.match(name, '^due:(.*)$')
  if owner and not served[owner] then
    if size then
      redis.call('SADD', key('splits'), size)
    end
    give_back(name, size and 'split:' .. size or 'due')
  end
end
for _, provider in ipairs(providers) do
  if not served[provider] then
    for _, batch in ipairs(redis.call('ZRANGE', key('unbegun:' .. provider), 0, 19)) do
      local b = record(batch)
      for _, id in ipairs(words(b.ids)) do
        if b['mark:' .. id] then
          to_sent({ id, b['mark:' .. id] }, at + ARGV[2])
        else
          redis.call('ZADD', key('due'), text(at), id)
          redis.call('HDEL', key('members'), id)
        end
      end
      drop_batch(batch, provider)
    end
  end
end
return { text(at), tonumber(h.epoch), 1 }
