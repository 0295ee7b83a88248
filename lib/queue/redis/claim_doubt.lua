-- claim_doubt: leases the batch in doubt that holds an email, for an operator, also while all claims are stopped.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claim id    ARGV[3] lease, ms    ARGV[4] email id
--
-- Returns the flat list of leased() in common.lua, or { "busy" }, { "not-in-doubt" }, { "unknown" }.

local at, id = now(), ARGV[4]
local before = claimed_before(ARGV[2], at)
if before then
  -- What it took is settled, or another's: a copy of it that was held up on the way takes nothing more.
  return before[1] == 'spent' and { 'busy' } or before
end
local batch = redis.call('HGET', key('members'), id)
if not batch then
  local is_known = redis.call('HEXISTS', key('emails'), id) == 1 or redis.call('HEXISTS', key('sent'), id) == 1
  return { is_known and 'not-in-doubt' or 'unknown' }
end
local b = fields(batch, 'doubt', 'held', 'until')
if is_free(b[2], b[3], at) then
  if not b[1] and b[2] ~= '1' then
    return { 'not-in-doubt' }
  end
  lease(batch, at, tonumber(ARGV[3]), 0, ARGV[2])
  return leased(batch, at)
end
return { b[1] and 'busy' or 'not-in-doubt' }
