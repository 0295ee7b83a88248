-- settle: carries out what was decided about a batch, while its lease is the one that it was claimed under.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] batch               ARGV[3] lease
-- ARGV[4] how long an id stays known, ms
-- ARGV[5] delay of the rest, ms, or "" if nothing is left   ARGV[6] notes of the rest
-- ARGV[7] why the provider failed, or ""
-- ARGV[8] number of counters, then for each: name, increment
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
local batch, expiry = ARGV[2], now() + ARGV[4]
local b = record(batch)
local ours = b.lease == ARGV[3] and b.held == '1'
local duplicates, leaving, gone = {}, {}, {}

local fates, position = {}, 9 + 2 * ARGV[8]
for i = 1, ARGV[position] do
  local f = position + 1 + 5 * (i - 1)
  fates[i] = { id = ARGV[f], kind = ARGV[f + 1], a = ARGV[f + 2], only = ARGV[f + 3], history = ARGV[f + 4] }
end

-- An acceptance of what was accepted before: by the same request, or twice.
local function accepted_again(id, earlier)
  local by = batch_of(earlier)
  if by ~= batch and by ~= '-' then
    duplicates[#duplicates + 1] = id
  end
end

local function leaves(id, value)
  gone[id] = value
  leaving[#leaving + 1] = id
  leaving[#leaving + 1] = value
end

-- True if all that is left in a batch has been accepted elsewhere: it ends so.
local function all_marked(held, ids)
  for _, id in ipairs(ids) do
    if not held['mark:' .. id] then
      return false
    end
  end
  for _, id in ipairs(ids) do
    leaves(id, held['mark:' .. id])
  end
  return true
end

local function accept_late(id, value)
  -- Also by the marks of this very settlement: those emails are written down together, at the end.
  local sent = gone[id] or redis.call('HGET', key('sent'), id)
  if sent then
    return accepted_again(id, sent)
  end
  local holder = redis.call('HGET', key('members'), id)
  if not holder then
    if redis.call('HEXISTS', key('emails'), id) == 1 then
      unlist(id)
      leaves(id, value)
    end
    return
  end
  local mark = mark_of(holder, id)
  if mark then
    return accepted_again(id, mark)
  end
  redis.call('HSET', key('batch:' .. holder), 'mark:' .. id, value)
  local held = record(holder)
  if all_marked(held, words(held.ids)) then
    drop_batch(holder, held.provider)
  end
end

local function carry_out(fate)
  local id, mark = fate.id, b['mark:' .. fate.id]
  if fate.kind == 'sent' then
    if mark then
      accepted_again(id, mark)
    end
    return leaves(id, batch .. '\n' .. fate.a)
  end
  if mark then
    return leaves(id, mark)
  end
  if b.doubt then
    redis.call('ZREM', key('doubtful'), id)
  end
  if fate.history ~= '' then
    redis.call('HSET', key('histories'), id, fate.history)
  end
  if fate.kind == 'rebatched' then
    local made = key('batch:' .. fate.a)
    local ids = redis.call('HGET', made, 'ids')
    redis.call('HSET', made, 'provider', b.provider, 'ids', ids and ids .. ' ' .. id or id, 'lease', 0, 'held', '0',
      'context', b.context or '')
    redis.call('ZADD', key('batches:' .. b.provider), text(at), fate.a)
    redis.call('ZADD', key('unbegun:' .. b.provider), text(at), fate.a)
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

-- One acceptance outweighs the rest, as it does for the breaker.
local function note_condition()
  local condition = key('condition:' .. b.provider)
  for _, fate in ipairs(fates) do
    if fate.kind == 'sent' then
      redis.call('HSET', condition, 'accepted', text(at))
      return redis.call('HDEL', condition, 'failing')
    end
  end
  if ARGV[7] ~= '' then
    redis.call('HSETNX', condition, 'failing', text(at))
    redis.call('HSET', condition, 'failed', text(at), 'reason', ARGV[7])
  end
end

if ours then
  local member = {}
  for _, id in ipairs(words(b.ids)) do
    member[id] = true
  end
  for _, fate in ipairs(fates) do
    if not member[fate.id] then
      return redis.error_reply('settle: not in the batch, or named twice: ' .. fate.id)
    end
    member[fate.id] = nil
  end
  local rest = {}
  for _, id in ipairs(words(b.ids)) do
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
  if all_marked(b, rest) then
    drop_batch(batch, b.provider)
  else
    local due = text(at + ARGV[5])
    redis.call('HSET', key('batch:' .. batch), 'ids', table.concat(rest, ' '), 'held', '0', 'lapsed', '0',
      'notes', ARGV[6])
    if not b.doubt then
      enter_doubt(batch, rest, at)
    end
    redis.call('ZADD', key('batches:' .. b.provider), due, batch)
  end
  for i = 1, ARGV[8] do
    redis.call('HINCRBY', key('counters'), ARGV[7 + 2 * i], ARGV[8 + 2 * i])
  end
  note_condition()
else
  for _, fate in ipairs(fates) do
    if fate.kind == 'sent' then
      accept_late(fate.id, batch .. '\n' .. fate.a)
    end
  end
end
to_sent(leaving, expiry)

if #duplicates > 0 then
  redis.call('HINCRBY', key('counters'), 'duplicates', #duplicates)
end
expire(at, 2 * #fates)
return { ours and 1 or 0, unpack(duplicates) }
