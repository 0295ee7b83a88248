-- rates: the shared rate of a provider. scripts.ts inserts it behind common.lua, for the scripts that need it. It does the
-- same as ../../../rate_bucket.ts, which explains it.
--
-- The hash `rates` has for each provider and credential: requests per second, the limit or "-", version, throttles, when
-- the next permit falls due, and from when until when there are none.

local burst = 50
local pause_max = 3600000

local function rate_name(provider, credential)
  return provider .. ' ' .. (credential == '' and '-' or credential)
end

-- A rate without times that are over or impossible. Nothing if none is known, unless `start` is the first one.
local function rate_of(name, at, start)
  local line = call('HGET', 'rates', name)
  if not line and not start then
    return nil
  end
  local all = words(line or string.format('%.6g - 0 0 0 0 0', start))
  local r = { per_second = tonumber(all[1]), limit = tonumber(all[2]), version = tonumber(all[3]),
    throttles = tonumber(all[4]), next = tonumber(all[5]), from = tonumber(all[6]), till = tonumber(all[7]) }
  local next_max = at + 1000 / r.per_second + burst
  r.next = r.next > next_max + step_min and at or math.min(r.next, next_max)
  if r.till <= at or r.from > at + step_min then
    r.from, r.till = 0, 0
  end
  return r
end

local function keep_rate(name, r)
  call('HSET', 'rates', name, string.format('%.6g %s %d %d %.3f %d %d', r.per_second,
    r.limit and string.format('%.6g', r.limit) or '-', r.version, r.throttles, r.next, r.from, r.till))
end

-- Until the next permit, ms.
local function permit_in(r, at)
  return math.max(0, math.ceil(math.max(r.next - burst, r.till) - at))
end

-- As SharedRate in rate_contract.ts.
local function shared_rate(r, at)
  return { perSecond = r.per_second, limitPerSecond = r.limit, version = r.version, throttles = r.throttles,
    nextInMs = permit_in(r, at) }
end

local function take_permit(name, r, at)
  r.next = math.max(r.next, at) + 1000 / r.per_second
  keep_rate(name, r)
end

-- Carries out a RateChange of rate_contract.ts.
local function change_rate(name, change, at)
  local r = rate_of(name, at)
  if not r then
    return
  elseif change.kind == 'unused' then
    r.next = r.next - 1000 / r.per_second
    return keep_rate(name, r)
  end
  local is_new = change.version == r.version
  if (change.limitPerSecond and change.limitPerSecond ~= r.limit) or (is_new and change.throttles > 0) then
    r.version = r.version + 1
  end
  if is_new then
    local wanted = r.per_second * change.factor + change.step
    r.per_second = math.min(change.maxPerSecond, math.max(change.minPerSecond, wanted))
    r.throttles = change.throttles
  elseif change.limitPerSecond then
    r.per_second = math.min(r.per_second, change.maxPerSecond)
  end
  r.limit = change.limitPerSecond or r.limit
  local till = at + math.ceil(math.min(change.pauseMs, pause_max))
  if till > math.max(at, r.till) then
    r.from, r.till = at, till
  end
  keep_rate(name, r)
end
