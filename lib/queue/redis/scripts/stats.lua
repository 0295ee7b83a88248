#!lua flags=no-writes
-- stats: emails by state, the counters, the condition of each provider, and since when emails are due or in doubt.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
--
-- Reads only the batches whose lease expired and that were not claimed since: those of a worker that died. An email that
-- was accepted elsewhere meanwhile counts as its batch does, until that ends.
--
-- Returns a PartitionStats of batch_codec.ts, as JSON.

local at, providers = now(), {}
local names = call('SMEMBERS', 'providers')
for _, provider in ipairs(names) do
  local c = hash('condition:' .. provider)
  if c.accepted or c.failed then
    providers[provider] = { lastAcceptedAtMs = tonumber(c.accepted), failingSinceMs = tonumber(c.failing),
      lastFailedAtMs = tonumber(c.failed), lastFailure = c.failed and c.reason or nil,
      isUnanswered = c.unanswered == '1' or nil }
  end
end

-- The credential that was used last counts, if there are several.
local rates = {}
for name in pairs(hash('rates')) do
  local provider, r = string.match(name, '^%S+'), rate_of(name, at)
  if not rates[provider] or r.next > rates[provider].next then
    rates[provider] = r
  end
end
for provider, r in pairs(rates) do
  local condition = providers[provider] or {}
  condition.rate = { perSecond = r.per_second, limitPerSecond = r.limit, pausedUntilMs = r.till > 0 and r.till or nil }
  providers[provider] = condition
end

-- The first time in a list, if that is over and before another.
local function first_of(name, before)
  local first = tonumber(call('ZRANGE', name, 0, 0, 'WITHSCORES')[2])
  if first and first <= at and (not before or first < before) then
    return first
  end
  return before
end

local states, oldest_due = { scheduled = 0, waiting = 0, retrying = 0, dead = 0 }, nil
for _, name in ipairs(due_names()) do
  local later = name == 'scheduled' and 'scheduled' or 'retrying'
  states.waiting = states.waiting + call('ZCOUNT', name, '-inf', text(at))
  states[later] = states[later] + call('ZCOUNT', name, '(' .. text(at), '+inf')
  oldest_due = first_of(name, oldest_due)
end
for _, suffix in ipairs(suffixes) do
  states.dead = states.dead + call('ZCARD', qualified('dead', suffix))
  for _, provider in ipairs(names) do
    oldest_due = first_of('batches:' .. provider .. suffix, oldest_due)
  end
end
local doubtful = call('ZCARD', 'doubtful')
for _, batch in ipairs(call('ZRANGEBYSCORE', 'leases', '-inf', text(at))) do
  doubtful = doubtful + #words(fields(batch, 'ids').ids)
end
states['in-doubt'], states.sending = doubtful, call('HLEN', 'members') - doubtful
states.sent = call('ZCARD', 'sent:expiry') - call('ZCARD', 'deleted')
local counters = {}
for name, count in pairs(hash('counters')) do
  counters[name] = tonumber(count)
end
-- Services that hide their memory count as using none.
local function info(section, name)
  local all = redis.pcall('INFO', section)
  return type(all) == 'string' and string.match(all, '\n' .. name .. ':(%w+)') or nil
end
local function bytes(name)
  return tonumber(info('memory', name)) or 0
end
local max = bytes('maxmemory')
local step_at, step_by = last_step(housekeeping(), at)

return cjson.encode({
  nowMs = at,
  states = states,
  counters = counters,
  fileBytes = has_hidden and tonumber(call('GET', 'sizes:total') or '0') or 0,
  providers = providers,
  oldestDueAtMs = oldest_due,
  oldestDoubtSinceMs = first_of('leases', first_of('doubtful')),
  paused = call('EXISTS', 'paused') == 1,
  moving = is_moving(),
  pauseVersion = pause_version(),
  node = info('server', 'run_id') or '',
  clockStep = step_at and { atMs = step_at, byMs = step_by },
  bytesUsed = bytes('used_memory'),
  bytesMax = max > 0 and max or nil,
})
