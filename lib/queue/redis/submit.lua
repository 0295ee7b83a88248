-- submit: queues the emails of one group commit, each on its own account.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] life of an idempotency key, ms
-- ARGV[3…] four for each email: id, text, idempotency key or "", fingerprint
--
-- Every place where an id may be known is looked into, at the first try too: a try held up on the way may be
-- executed after its repeat, when the email has long been sent.
--
-- Returns one string for each email: "q" queued, "k" known, "k <id>" known under the first submission's id,
-- "c" the key belongs to another email, "e <message>" not queued.

local at = now()
local emails, due, sent = key('emails'), key('due'), key('sent')
local queued = 0

local function submit(id, email, idem, fingerprint)
  if redis.call('HEXISTS', sent, id) == 1 then
    return 'k'
  end
  if idem ~= '' then
    local held = redis.call('GET', key('idem:' .. idem))
    if held then
      local expires, first, print = unpack(words(held))
      if tonumber(expires) > at then
        return print == fingerprint and 'k ' .. first or 'c'
      end
    end
  end
  if redis.call('HSETNX', emails, id, text(at) .. '\n' .. email) == 0 then
    return 'k'
  end
  redis.call('ZADD', due, text(at), id)
  if idem ~= '' then
    local life = tonumber(ARGV[2])
    redis.call('SET', key('idem:' .. idem), text(at + life) .. ' ' .. id .. ' ' .. fingerprint, 'PX', text(life))
  end
  queued = queued + 1
  return 'q'
end

local replies = {}
for i = 3, #ARGV, 4 do
  local id = ARGV[i]
  local ok, reply = pcall(submit, id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  if not ok then
    -- Half of it may be written: an email without its place in due would be known, and never sent.
    redis.pcall('HDEL', emails, id)
    redis.pcall('ZREM', due, id)
    reply = 'e ' .. tostring(type(reply) == 'table' and reply.err or reply)
  end
  replies[#replies + 1] = reply
end

if queued == 0 then
  redis.call('SET', key('mark'), text(at))
elseif redis.call('DEL', key('idle')) == 1 then
  redis.call('PUBLISH', key('wake'), '')
end
return replies
