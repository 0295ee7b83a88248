#!lua flags=allow-oom
-- housekeeping: one sweep by one worker, bounded, once a second.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] request, JSON; {} only looks at the clock:
--   step                 how far this clock has stepped since it was last stamped, ms; or "unwatched", if no worker knows
--   nowMs, stampMs       as returned by the look at the clock that shows this
--   retainMs, idempotencyMs   how long an id stays known, and an idempotency key
--   worker, presence     the worker, and what follows the time in its field of workers
--
-- Returns JSON: nowMs; stampMs, the time of this clock that some worker left last, absent if none ever did; workers, how
-- many live, absent from a look at the clock; and pause: paused, and pauseVersion.

local at, request = now(), cjson.decode(ARGV[2])
local day = 24 * hour
local h = housekeeping()

local function keep(name, value)
  h[name] = value
  call('HSET', 'housekeeping', name, value)
end

local function range(name, least, most, limit)
  return call('ZRANGEBYSCORE', name, least, most, 'LIMIT', 0, limit)
end

local live
local function clock()
  return cjson.encode({ nowMs = at, stampMs = tonumber(h.swept), workers = live, pause = {
    paused = call('EXISTS', 'paused') == 1, pauseVersion = pause_version() } })
end

-- The clock

local step = request.step
-- If the clock has stepped, or another worker has stamped it, since this worker looked at it, the next sweep decides.
if not step or request.stampMs ~= tonumber(h.swept) or math.abs(at - request.nowMs) > step_min then
  return clock()
end

-- How far the end of a doubt moves when the steps of the clock since its batch began add up to `net`. A sum ahead is
-- believed. A sum back moves the end back, so that no key is used more than 23 h after its first request.
local function moved_by(net)
  return net < -step_min and net or 0
end

-- Steps that cancel each other change nothing: the clock was wrong for a while.
local function move_ends(name, by, stepped)
  for _, batch in ipairs(call('ZRANGE', name, 0, -1)) do
    local b = fields(batch, 'began', 'ends', 'net')
    local began, net = tonumber(b.began), tonumber(b.net or '0') + by
    -- A batch that began later than that was begun after the step, by a worker that could not know of it.
    if began and began <= stepped - by + step_min then
      local move = moved_by(net) - moved_by(net - by)
      local ends = text(math.min(b.ends + move, at + 23 * hour))
      call('HSET', 'batch:' .. batch, 'began', text(began + move), 'ends', ends, 'net', text(net))
      call('ZADD', name, ends, batch)
    end
  end
end

local ahead = 0
if step == 'unwatched' then
  -- The time without any worker may hide a step.
  keep('expires_from', text(at + hour))
elseif step ~= 0 then
  ahead = math.max(0, step)
  keep('step_at', text(at))
  keep('step_by', text(step))
  if math.abs(step) > minute then
    keep('expires_from', text(at + hour))
    keep('ends_from', text(at + hour))
  end
  move_ends('ends', step, at)
end
if step ~= 0 or at - h.swept > 20000 then
  keep('swept', text(at))
end
-- The step may have been found by a worker of the previous release, which does not move `ends:+`.
local stepped_at = h.step_at or '-'
if has_hidden and stepped_at ~= h.hidden_step_at then
  if h.hidden_step_at or stepped_at == text(at) then
    move_ends('ends:+', tonumber(h.step_by), tonumber(stepped_at))
  end
  keep('hidden_step_at', stepped_at)
end
local may_expire = not h.expires_from or tonumber(h.expires_from) <= at

-- Presence

-- The names in a set, in order, as they are kept in housekeeping.
local function line_of(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return #names == 0 and ' ' or ' ' .. table.concat(names, ' ') .. ' '
end

local before = call('HGET', 'workers', request.worker) or ''
local heard, presence = string.match(before, '^(%d+) (.*)$')
if presence ~= request.presence or at - heard >= 20000 or at < tonumber(heard) then
  call('HSET', 'workers', request.worker, text(at) .. ' ' .. request.presence)
  local own = words(request.presence)
  for i = 3, #own, 3 do
    if own[i + 2] == '1' then
      call('HSET', 'served', own[i], text(at))
    end
  end
end

live = 0
local retry_max, search_wait, credentials = 0, 0, {}
for worker, line in pairs(hash('workers')) do
  local all = words(line)
  local age = at - all[1]
  -- Workers that were alive before a step ahead still are.
  if age < 0 or (ahead > 0 and age - ahead <= minute) then
    age = 0
    call('HSET', 'workers', worker, text(at) .. string.sub(line, #all[1] + 1))
  end
  if age <= minute then
    live = live + 1
    retry_max = math.max(retry_max, tonumber(all[2]))
    search_wait = math.max(search_wait, tonumber(all[3]))
    for i = 4, #all, 3 do
      credentials[all[i] .. ':' .. all[i + 1]] = true
    end
  elseif age > day and may_expire then
    call('HDEL', 'workers', worker)
  end
end

local served = {}
for provider, time in pairs(hash('served')) do
  local age = at - time
  if age > day and may_expire then
    call('HDEL', 'served', provider)
  else
    served[provider] = true
    if age < 0 then
      call('HSET', 'served', provider, text(at))
    end
  end
end
for name, line in pairs({ served = line_of(served), credentials = line_of(credentials) }) do
  if line ~= h[name] then
    keep(name, line)
  end
end

-- Expiry

local life = request.idempotencyMs

-- Keys whose life begins now.
for _, name in ipairs(range('idem:scheduled', '-inf', text(at + life), 1000)) do
  call('ZADD', 'idem:expiry', call('ZSCORE', 'idem:scheduled', name), name)
  call('ZREM', 'idem:scheduled', name)
end

if may_expire then
  for _ = 1, 5 do
    local ids = range('sent:expiry', '-inf', text(at), 1000)
    if #ids == 0 then
      break
    end
    call('HDEL', 'sent', unpack(ids))
    call('ZREM', 'deleted', unpack(ids))
    call('ZREM', 'sent:expiry', unpack(ids))
  end
  for _, name in ipairs(range('idem:expiry', '-inf', text(at), 1000)) do
    trim(name, at, life)
  end
  for _, claimant in ipairs(range('claimants:seen', '-inf', text(at - day), 1000)) do
    call('HDEL', 'claimants', claimant)
    call('ZREM', 'claimants:seen', claimant)
  end
  for name in pairs(hash('rates')) do
    if rate_of(name, at).next <= at - day then
      call('HDEL', 'rates', name)
    end
  end
end
call('ZREMRANGEBYSCORE', 'leases:doubtful', '-inf', text(at))

-- Impossible times

-- No doubt lasts longer from now than the longest that a worker may be set to.
for _, suffix in ipairs(suffixes) do
  local name = qualified('ends', suffix)
  for _, batch in ipairs(range(name, text(at + 23 * hour + minute), '+inf', 100)) do
    local ends = text(at + 23 * hour)
    call('HSET', 'batch:' .. batch, 'ends', ends)
    call('ZADD', name, ends, batch)
  end
end

-- Anything stamped by a clock that ran ahead is kept for its whole time from now on.
for _, id in ipairs(range('sent:expiry', text(at + request.retainMs + minute), '+inf', 1000)) do
  call('ZADD', 'sent:expiry', text(at + request.retainMs), id)
end
for _, name in ipairs(range('idem:expiry', text(at + life + minute), '+inf', 100)) do
  trim(name, at, life)
end
for _, claimant in ipairs(range('claimants:seen', text(at + minute), '+inf', 100)) do
  call('ZADD', 'claimants:seen', text(at), claimant)
end

local restamped = 0
local restamped_max = 1000

-- Makes due now what is due later than `delay` from now, while the limit lasts; but no batch that is leased.
local function restamp(name, delay, holds_batches)
  local left = restamped_max - restamped
  for _, member in ipairs(left > 0 and range(name, text(at + delay + minute), '+inf', left) or {}) do
    if not holds_batches or fields(member, 'held').held ~= '1' then
      call('ZADD', name, text(at), member)
      restamped = restamped + 1
    end
  end
end

-- No live worker delays an email or a batch in doubt for longer. A client may schedule an email for later.
local names = due_names()
for _, name in ipairs(names) do
  if name ~= 'scheduled' then
    restamp(name, retry_max)
  end
end
for _, provider in ipairs(call('SMEMBERS', 'providers')) do
  for _, suffix in ipairs(suffixes) do
    restamp('batches:' .. provider .. suffix, math.max(retry_max, search_wait), true)
  end
end

-- A lease cannot last longer than its length: it ends after that, from now on. Only beyond twice its length, or a clock
-- that steps back a little would change every lease.
for _, name in ipairs({ 'leases', 'leases:doubtful' }) do
  for _, batch in ipairs(call('ZREVRANGEBYSCORE', name, '+inf', text(at), 'LIMIT', 0, 200)) do
    local b = fields(batch, 'until', 'length', 'provider')
    local length = tonumber(b.length)
    if length and tonumber(b['until']) > at + 2 * length then
      local lease_end = text(at + length)
      call('HSET', 'batch:' .. batch, 'until', lease_end)
      call('ZADD', batches_name(b), lease_end, batch)
      call('ZADD', name, lease_end, batch)
      restamped = restamped + 1
    end
  end
end
if restamped > 0 then
  call('HINCRBY', 'counters', 'restamped', restamped)
  wake()
end

-- Emails that only one provider may take, which no worker serves, are for all.
for _, name in ipairs(names) do
  local piece, owner, suffix = parts_of(name)
  if name ~= 'scheduled' and owner ~= '' and not served[owner] then
    local shared = list_name(piece, nil, suffix)
    if piece then
      call('SADD', qualified('splits', suffix), string.sub(shared, #'split:' + 1))
    end
    local emails = call('ZRANGE', name, 0, 99, 'WITHSCORES')
    for i = 1, #emails, 2 do
      call('ZADD', shared, emails[i + 1], emails[i])
      call('ZREM', name, emails[i])
    end
  end
end

if has_hidden then
  sweep_hidden()
end
return clock()
