#!lua flags=allow-oom
-- change_rate: changes the rate of a provider outside a settlement.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] provider and credential, and a RateChange of rate_contract.ts, in one JSON object

local change = cjson.decode(ARGV[2])
change_rate(rate_name(change.provider, change.credential), change, now())
