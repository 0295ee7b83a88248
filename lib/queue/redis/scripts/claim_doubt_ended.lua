-- claim_doubt_ended: leases one batch, of any provider, whose doubt has ended and that nobody holds.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claimant    ARGV[3] number of this claim    ARGV[4] lease, ms, as for claim
--
-- Gives nothing for an hour after a step of the clock by more than a minute; nor before a sweep has looked at the clock
-- again: the step may have been just now.
--
-- Returns { "batch", fields, email… } as lease_reply() in common.lua does, { "spent" }, { "paused" } or
-- { "empty", -1 }.

local at = now()
local claim = { claimant = ARGV[2], number = tonumber(ARGV[3]), lease_ms = tonumber(ARGV[4]), doubt_ms = 0 }
local before = claimed_before(claim, at)
if before then
  return before
end
if redis.call('EXISTS', key('paused')) == 1 then
  return { 'paused' }
end
local swept, ends_from = unpack(redis.call('HMGET', key('housekeeping'), 'swept', 'ends_from'))
local is_vouched = not swept or math.abs(at - swept) <= 60000
if is_vouched and (not ends_from or tonumber(ends_from) <= at) then
  for _, batch in ipairs(redis.call('ZRANGEBYSCORE', key('ends'), '-inf', text(at), 'LIMIT', 0, 100)) do
    local b = fields(batch, 'held', 'until')
    if is_free(b[1], b[2], at) then
      return lease(batch, record(batch), at, claim)
    end
  end
end
return { 'empty', -1 }
