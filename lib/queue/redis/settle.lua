-- settle: carries out what was decided about a batch, while its lease is the one that it was claimed under.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] batch               ARGV[3] lease
-- ARGV[4] how long an id stays known, ms
-- ARGV[5] delay of the rest, ms, or "" if nothing is left   ARGV[6] notes of the rest
-- ARGV[7] number of counters, then for each: name, increment
-- then the number of fates, then five for each:
--   email id, "sent",      remains,       "",              ""
--   email id, "due",       delay in ms,   provider or "",  history
--   email id, "dead",      "",            "",              history
--   email id, "rebatched", new batch,     "",              history
--
-- Under an old lease only acceptances count: what is waiting, retrying or dead is sent; what is in a batch is
-- marked there, and a batch with all its emails marked is finished.
--
-- Returns { 1 if the lease was ours else 0, ids that another hand-over had sent already… }.

local at = now()
local batch, retain = ARGV[2], tonumber(ARGV[4])
local b = fields(batch, 'lease', 'held', 'ids', 'provider', 'context', 'doubt')
local ours = b[1] == ARGV[3] and b[2] == '1'
local provider, expiry = b[4], at + retain
local duplicates = {}

local fates, position = {}, 8 + 2 * ARGV[7]
for i = 1, ARGV[position] do
  local f = position + 1 + 5 * (i - 1)
  fates[i] = { id = ARGV[f], kind = ARGV[f + 1], a = ARGV[f + 2], only = ARGV[f + 3], history = ARGV[f + 4] }
end

local function accepted(id, earlier)
  local by = batch_of(earlier)
  if by ~= batch and by ~= '-' then
    duplicates[#duplicates + 1] = id
  end
end

-- All that is left in the batch has been accepted elsewhere.
local function finish_if_marked(holder, ids)
  for _, id in ipairs(ids) do
    if not mark_of(holder, id) then
      return false
    end
  end
  for _, id in ipairs(ids) do
    to_sent(id, mark_of(holder, id), expiry)
  end
  return true
end

local function accept_late(id, value)
  local sent = redis.call('HGET', key('sent'), id)
  local holder = redis.call('HGET', key('members'), id)
  if sent then
    accepted(id, sent)
  elseif holder then
    local mark = mark_of(holder, id)
    if mark then
      accepted(id, mark)
      return
    end
    redis.call('HSET', key('batch:' .. holder), 'mark:' .. id, value)
    local h = fields(holder, 'ids', 'provider')
    if finish_if_marked(holder, words(h[1])) then
      drop_batch(holder, h[2])
    end
  elseif redis.call('HEXISTS', key('emails'), id) == 1 then
    unlist(id)
    to_sent(id, value, expiry)
  end
end

local function carry_out(fate)
  local id = fate.id
  local mark = mark_of(batch, id)
  if fate.kind == 'sent' then
    if mark then
      accepted(id, mark)
    end
    to_sent(id, batch .. '\n' .. fate.a, expiry)
    return
  end
  if mark then
    to_sent(id, mark, expiry)
    return
  end
  if fate.history ~= '' then
    redis.call('HSET', key('histories'), id, fate.history)
  end
  if fate.kind == 'rebatched' then
    local made = key('batch:' .. fate.a)
    local ids = redis.call('HGET', made, 'ids')
    redis.call('HSET', made, 'provider', provider, 'ids', ids and ids .. ' ' .. id or id, 'lease', 0, 'held', '0',
      'context', b[5] or '')
    redis.call('ZADD', key('batches:' .. provider), text(at), fate.a)
    redis.call('ZADD', key('unbegun:' .. provider), text(at), fate.a)
    redis.call('HSET', key('members'), id, fate.a)
    return
  end
  redis.call('HDEL', key('members'), id)
  if fate.kind == 'dead' then
    redis.call('ZADD', key('dead'), text(at), id)
  elseif fate.only ~= '' then
    redis.call('SADD', key('providers'), fate.only)
    redis.call('ZADD', key('due:' .. fate.only), text(at + fate.a), id)
  else
    redis.call('ZADD', key('due'), text(at + fate.a), id)
  end
end

if ours then
  local member = {}
  for _, id in ipairs(words(b[3])) do
    member[id] = true
  end
  for _, fate in ipairs(fates) do
    if not member[fate.id] then
      return redis.error_reply('settle: not in the batch, or named twice: ' .. fate.id)
    end
    member[fate.id] = nil
  end
  local rest = {}
  for _, id in ipairs(words(b[3])) do
    if member[id] then
      rest[#rest + 1] = id
    end
  end
  if #rest > 0 and ARGV[5] == '' then
    return redis.error_reply('settle: neither a fate nor a rest: ' .. rest[1])
  end
  for _, fate in ipairs(fates) do
    carry_out(fate)
  end
  if finish_if_marked(batch, rest) then
    drop_batch(batch, provider)
  else
    local due = text(at + ARGV[5])
    redis.call('HSET', key('batch:' .. batch), 'ids', table.concat(rest, ' '), 'held', '0', 'lapsed', '0',
      'doubt', b[6] or text(at), 'notes', ARGV[6])
    redis.call('ZADD', key('batches:' .. provider), due, batch)
  end
  for i = 1, ARGV[7] do
    redis.call('HINCRBY', key('counters'), ARGV[6 + 2 * i], ARGV[7 + 2 * i])
  end
else
  for _, fate in ipairs(fates) do
    if fate.kind == 'sent' then
      accept_late(fate.id, batch .. '\n' .. fate.a)
    end
  end
end

if #duplicates > 0 then
  redis.call('HINCRBY', key('counters'), 'duplicates', #duplicates)
end
expire(at, 2 * #fates)
return { ours and 1 or 0, unpack(duplicates) }
