-- settle: carries out what was decided about a batch, while its lease is the one that it was claimed under.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] batch               ARGV[3] lease               ARGV[4] provider
-- ARGV[5] how long an id stays known, ms
-- ARGV[6] delay of the rest, ms; "keep" if it stays under this lease; or "" if nothing is left
-- ARGV[7] notes of the rest
-- ARGV[8] why the provider failed, or ""                  ARGV[9] 1 if it said so itself, else 0
-- ARGV[10] credential under which emails were accepted, or ""
-- ARGV[11] number of counters, then for each: name, increment
-- then the number of fates, then six for each:
--   email id, "sent", remains,     "",             "",             ""
--   email id, "due",  delay in ms, provider or "", piece max or "", history
--   email id, "dead", "",          "",             "",             history
--
-- Under an old lease only acceptances count: what is waiting, retrying or dead is sent; what is in a batch is
-- marked there, and a batch with all its emails marked is finished.
--
-- Redis keeps what was written before a command that fails. So everything is worked out first, counters are written
-- first of all, and nothing is removed from one place before it stands in another.
--
-- Returns { 1 if the lease was ours else 0, ids that another hand-over had sent already… }.

local at = now()
local batch, expiry = ARGV[2], now() + ARGV[5]
local b = record(batch)
local ours = b.lease == ARGV[3] and b.held == '1'
local accepted, duplicates, leaving, gone = 0, {}, {}, {}

local fates, position = {}, 12 + 2 * ARGV[11]
for i = 1, ARGV[position] do
  local f = position + 1 + 6 * (i - 1)
  fates[i] = { id = ARGV[f], kind = ARGV[f + 1], a = ARGV[f + 2], only = ARGV[f + 3], piece = ARGV[f + 4],
    history = ARGV[f + 5] }
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

local function count()
  for i = 1, ours and ARGV[11] or 0 do
    redis.call('HINCRBY', key('counters'), ARGV[10 + 2 * i], ARGV[11 + 2 * i])
  end
  if #duplicates > 0 then
    redis.call('HINCRBY', key('counters'), 'duplicates', #duplicates)
  end
  if accepted > 0 and ARGV[10] ~= '' then
    redis.call('HINCRBY', key('acceptances'), ARGV[4] .. ' ' .. ARGV[10], accepted)
  end
end

-- The emails of the batch that have no fate; or nothing, and a mistake if it is one.
local function rest_of()
  local member, rest, known, stranger = {}, {}, 0, nil
  for _, id in ipairs(words(b.ids)) do
    member[id] = true
  end
  for _, fate in ipairs(fates) do
    if member[fate.id] then
      member[fate.id], known = nil, known + 1
    else
      stranger = stranger or fate.id
    end
  end
  if stranger then
    -- Repeated after a lost answer: the batch is still held, and all of them have left it.
    local is_repeated = ARGV[6] == 'keep' and known == 0
    return nil, not is_repeated and 'ERR settle: not in the batch, or named twice: ' .. stranger or nil
  end
  for _, id in ipairs(words(b.ids)) do
    if member[id] then
      rest[#rest + 1] = id
    end
  end
  if #rest > 0 and ARGV[6] == '' then
    return nil, 'ERR settle: neither a fate nor a rest: ' .. rest[1]
  end
  return rest
end

-- One acceptance outweighs the rest, as it does for the breaker.
local function note_condition()
  local condition = key('condition:' .. b.provider)
  if accepted > 0 then
    redis.call('HSET', condition, 'accepted', text(at))
    redis.call('HDEL', condition, 'failing', 'unanswered')
  elseif ARGV[8] ~= '' then
    redis.call('HSETNX', condition, 'failing', text(at))
    redis.call('HSET', condition, 'failed', text(at), 'reason', ARGV[8])
    if ARGV[9] == '1' then
      redis.call('HDEL', condition, 'unanswered')
    else
      redis.call('HSET', condition, 'unanswered', '1')
    end
  end
end

-- What the fates put into which list, and who leaves the batch for it.
local lists, histories, moved, owners, splits = {}, {}, {}, {}, {}

local function moves(name, time, id)
  lists[name] = lists[name] or {}
  table.insert(lists[name], text(time))
  table.insert(lists[name], id)
end

local function list_of(fate)
  if fate.kind == 'dead' then
    return 'dead', at
  end
  local name = fate.only == '' and '' or ':' .. fate.only
  if fate.only ~= '' then
    owners[fate.only] = true
  end
  if fate.piece == '' then
    return 'due' .. name, at + fate.a
  end
  splits[fate.piece .. name] = true
  return 'split:' .. fate.piece .. name, at + fate.a
end

local function carry_out(fate)
  local id, mark = fate.id, b['mark:' .. fate.id]
  if fate.kind == 'sent' then
    accepted = accepted + 1
    if mark then
      accepted_again(id, mark)
    end
    return leaves(id, batch .. '\n' .. fate.a)
  end
  if mark then
    return leaves(id, mark)
  end
  local name, time = list_of(fate)
  moves(name, time, id)
  moved[#moved + 1] = id
  if fate.history ~= '' then
    histories[#histories + 1] = id
    histories[#histories + 1] = fate.history
  end
end

local function move()
  for provider in pairs(owners) do
    redis.call('SADD', key('providers'), provider)
  end
  for split in pairs(splits) do
    redis.call('SADD', key('splits'), split)
  end
  -- Of several lists one may be of another type: none is written then.
  for name in pairs(lists) do
    redis.call('ZCARD', key(name))
  end
  if #histories > 0 then
    redis.call('HSET', key('histories'), unpack(histories))
  end
  for name, entries in pairs(lists) do
    redis.call('ZADD', key(name), unpack(entries))
  end
  if #moved > 0 then
    redis.call('HDEL', key('members'), unpack(moved))
    if b.doubt then
      redis.call('ZREM', key('doubtful'), unpack(moved))
    end
  end
end

local function settle_ours()
  local rest, mistake = rest_of()
  if mistake then
    return redis.error_reply(mistake)
  elseif not rest then
    return { 1 }
  end
  for _, fate in ipairs(fates) do
    carry_out(fate)
  end
  local is_over = all_marked(b, rest)
  count()
  note_condition()
  to_sent(leaving, expiry)
  move()
  if is_over then
    drop_batch(batch, b.provider)
  elseif ARGV[6] == 'keep' then
    redis.call('HSET', key('batch:' .. batch), 'ids', table.concat(rest, ' '))
  else
    local due = text(at + ARGV[6])
    redis.call('HSET', key('batch:' .. batch), 'ids', table.concat(rest, ' '), 'held', '0', 'lapsed', '0',
      'notes', ARGV[7])
    if b.doubt then
      redis.call('ZREM', key('leases:doubtful'), batch)
    else
      enter_doubt(batch, rest, at)
    end
    redis.call('ZADD', key('batches:' .. b.provider), due, batch)
  end
  return { 1, unpack(duplicates) }
end

-- Late acceptances: what waits or is dead leaves its list; what is in a batch is marked, and batches end that have
-- nothing else.
local unlisted, marks, held = {}, {}, {}

local function accept_late(id, value)
  -- Also by the marks of this very settlement.
  local sent = gone[id] or redis.call('HGET', key('sent'), id)
  if sent then
    return accepted_again(id, sent)
  end
  local holder = redis.call('HGET', key('members'), id)
  if not holder then
    if redis.call('HEXISTS', key('emails'), id) == 1 then
      accepted = accepted + 1
      unlisted[#unlisted + 1] = id
      leaves(id, value)
    end
    return
  end
  held[holder] = held[holder] or record(holder)
  local mark = held[holder]['mark:' .. id]
  if mark then
    return accepted_again(id, mark)
  end
  accepted = accepted + 1
  held[holder]['mark:' .. id] = value
  marks[#marks + 1] = { holder, 'mark:' .. id, value }
  if all_marked(held[holder], words(held[holder].ids)) then
    held[holder].is_over = true
  end
end

local function settle_late()
  for _, fate in ipairs(fates) do
    if fate.kind == 'sent' then
      accept_late(fate.id, batch .. '\n' .. fate.a)
    end
  end
  count()
  for _, mark in ipairs(marks) do
    redis.call('HSET', key('batch:' .. mark[1]), mark[2], mark[3])
  end
  to_sent(leaving, expiry)
  if #unlisted > 0 then
    unlist(unpack(unlisted))
  end
  for holder, one in pairs(held) do
    if one.is_over then
      drop_batch(holder, one.provider)
    end
  end
  return { 0, unpack(duplicates) }
end

return ours and settle_ours() or settle_late()
