-- claim_in_doubt: leases the batch in doubt that holds an email, for an operator, also while all claims are stopped.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claimant    ARGV[3] number of this claim    ARGV[4] lease, ms, as for claim    ARGV[5] email id
--
-- Returns { "batch", fields, email… } as lease_reply() in common.lua does, or { "busy" }, { "not-in-doubt" },
-- { "unknown" }.

local at, id = now(), ARGV[5]
local claim = { claimant = ARGV[2], number = tonumber(ARGV[3]), lease_ms = tonumber(ARGV[4]), doubt_ms = 0 }
local before = claimed_before(claim, at)
if before then
  -- What it took is settled, or another's: a copy of it that was held up on the way takes nothing more.
  return before[1] == 'spent' and { 'busy' } or before
end
local batch = redis.call('HGET', key('members'), id)
if not batch then
  local is_known = redis.call('HEXISTS', key('emails'), id) == 1 or redis.call('HEXISTS', key('sent'), id) == 1
  return { is_known and 'not-in-doubt' or 'unknown' }
end
local b = record(batch)
if is_free(b.held, b['until'], at) then
  if not b.doubt and b.held ~= '1' then
    return { 'not-in-doubt' }
  end
  return lease(batch, b, at, claim)
end
return { b.doubt and 'busy' or 'not-in-doubt' }
