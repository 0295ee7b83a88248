#!lua flags=allow-oom
-- permit: takes the permit for one request to a provider outside a claim.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] PermitRequest of rate_contract.ts, JSON
--
-- Returns JSON: isTaken, and rate, a SharedRate.

local at, request = now(), cjson.decode(ARGV[2])
local name = rate_name(request.provider, request.credential)
local r = rate_of(name, at, request.startPerSecond)
local is_taken = permit_in(r, at) == 0
if is_taken then
  take_permit(name, r, at)
end
return cjson.encode({ isTaken = is_taken, rate = shared_rate(r, at) })
