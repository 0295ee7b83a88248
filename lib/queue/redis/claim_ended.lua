-- claim_ended: leases one batch, of any provider, whose doubt has ended and that nobody holds.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] claim id    ARGV[3] lease, ms
--
-- Returns the flat list of leased() in common.lua, { "spent" }, { "paused" } or { "empty", -1 }.

local at = now()
local before = claimed_before(ARGV[2], at)
if before then
  return before
end
if redis.call('EXISTS', key('paused')) == 1 then
  return { 'paused' }
end
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', key('ends'), '-inf', text(at), 'LIMIT', 0, 100)) do
  local b = fields(batch, 'held', 'until')
  if is_free(b[1], b[2], at) then
    lease(batch, at, tonumber(ARGV[3]), 0, ARGV[2])
    return leased(batch, at)
  end
end
return { 'empty', -1 }
