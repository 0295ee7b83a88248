#!lua flags=allow-oom
-- settle: carries out what was decided about a batch, while its lease is the one under which it was claimed.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] settlement, JSON:
--   batch, lease, provider, and retainMs: how long the id of a sent email stays known
--   held                 only from an operator, for a batch that is not leased: the field `held` as the operator saw it
--   fates, rest, keepsLease, counts, credential, rate, failure: as in Settlement in contract.ts, but without the fates "sent"
-- then two for each fate "sent", since JSON would be slow: id, and what is kept of the email,
--   "<batch>\n<envelope line>\n<record>"
--
-- Under an old lease only acceptances count: an email that waits or is dead becomes sent; one in another batch is
-- marked there, and a batch with all its emails marked ends.
--
-- If a command fails, Redis keeps what was written before it. So everything is computed first, counters are written
-- before anything else, and nothing is removed from one key before it is in another.
--
-- Returns { 1 if the lease was ours else 0, ids of emails that were accepted in another batch before… }.

local at, s = now(), cjson.decode(ARGV[2])
local batch, expiry = s.batch, at + s.retainMs
local b = record(batch)
local ours = tonumber(b.lease) == s.lease and b.held == (s.held or '1') and (not s.held or is_free(b, at))
local accepted, duplicates, leaving, gone = 0, {}, {}, {}
for i = 3, #ARGV, 2 do
  s.fates[#s.fates + 1] = { id = ARGV[i], kind = 'sent', value = ARGV[i + 1] }
end

-- An acceptance of an email that is known to be sent or deleted. A duplicate, if it was accepted in another batch.
local function accepted_again(id, earlier)
  local by = string.match(earlier, '^[^\n]*')
  if by ~= batch and by ~= '-' then
    duplicates[#duplicates + 1] = id
  end
end

local function leave(id, value)
  gone[id] = value
  append(leaving, id, value)
end

-- If all emails that are left in a batch were accepted elsewhere, they leave it as sent. True if so: the batch ends.
local function all_marked(held, ids)
  for _, id in ipairs(ids) do
    if not held['mark:' .. id] then
      return false
    end
  end
  for _, id in ipairs(ids) do
    leave(id, held['mark:' .. id])
  end
  return true
end

local function count()
  for name, by in pairs(ours and s.counts or {}) do
    call('HINCRBY', 'counters', name, by)
  end
  if #duplicates > 0 then
    call('HINCRBY', 'counters', 'duplicates', #duplicates)
  end
  if accepted > 0 and (s.credential or '') ~= '' then
    call('HINCRBY', 'acceptances', s.provider .. ' ' .. s.credential, accepted)
  end
end

-- An answer under an old lease is learned from too. A permit goes back once, however often the settlement is repeated.
local function note_rate()
  if s.rate and (ours or s.rate.kind ~= 'unused') then
    change_rate(rate_name(s.provider, s.rate.credential), s.rate, at)
  end
end

-- Late acceptances

local unlisted, marks, held = {}, {}, {}

local function accept_late(id, value)
  -- It may also have left by a mark of this very settlement.
  local sent = gone[id] or call('HGET', 'sent', id)
  if sent then
    return accepted_again(id, sent)
  end
  local holder = call('HGET', 'members', id)
  if not holder then
    if call('HEXISTS', 'emails', id) == 1 then
      accepted = accepted + 1
      unlisted[#unlisted + 1] = id
      leave(id, value)
    end
    return
  end
  held[holder] = held[holder] or record(holder)
  local one, mark = held[holder], 'mark:' .. id
  if one[mark] then
    return accepted_again(id, one[mark])
  end
  accepted = accepted + 1
  one[mark] = value
  marks[#marks + 1] = { holder, mark, value }
  one.is_over = all_marked(one, words(one.ids))
end

local function settle_late()
  for _, fate in ipairs(s.fates) do
    if fate.kind == 'sent' then
      accept_late(fate.id, fate.value)
    end
  end
  count()
  note_rate()
  for _, mark in ipairs(marks) do
    call('HSET', 'batch:' .. mark[1], mark[2], mark[3])
  end
  to_sent(leaving, expiry)
  if #unlisted > 0 then
    unlist(unlisted)
  end
  for holder, one in pairs(held) do
    if one.is_over then
      drop_batch(holder, one)
    end
  end
  return { 0, unpack(duplicates) }
end

-- A settlement under the lease

-- The emails of the batch that have no fate; or nothing, and an error if the settlement does not fit the batch.
local function rest_of()
  local named = {}
  for i, fate in ipairs(s.fates) do
    named[i] = fate.id
  end
  -- The usual case: every email has a fate.
  if table.concat(named, ' ') == b.ids then
    return {}
  end
  local ids, member, rest, known, stranger = words(b.ids), {}, {}, 0, nil
  for _, id in ipairs(ids) do
    member[id] = true
  end
  for _, fate in ipairs(s.fates) do
    if member[fate.id] then
      member[fate.id], known = nil, known + 1
    else
      stranger = stranger or fate.id
    end
  end
  if stranger then
    -- Repeated after a lost answer: the batch is still leased, and all emails with a fate have left it.
    local is_repeated = s.keepsLease and known == 0
    return nil, not is_repeated and 'ERR settle: not in the batch, or named twice: ' .. stranger or nil
  end
  for _, id in ipairs(ids) do
    if member[id] then
      rest[#rest + 1] = id
    end
  end
  if #rest > 0 and not s.rest and not s.keepsLease then
    return nil, 'ERR settle: neither a fate nor a rest: ' .. rest[1]
  end
  return rest
end

-- One acceptance outweighs the rest, as it does for the circuit breaker.
local function note_condition()
  local condition = 'condition:' .. b.provider
  if accepted > 0 then
    call('HSET', condition, 'accepted', text(at))
    call('HDEL', condition, 'failing', 'unanswered')
  elseif s.failure then
    call('HSETNX', condition, 'failing', text(at))
    call('HSET', condition, 'failed', text(at), 'reason', s.failure.reason)
    if s.failure.own then
      call('HDEL', condition, 'unanswered')
    else
      call('HSET', condition, 'unanswered', '1')
    end
  end
end

-- The writes of the fates: entries by list, histories, and the emails that leave the batch for a list.
local lists, histories, moved = {}, {}, {}

local is_hidden = {}
for _, id in ipairs(words(b.hidden or '')) do
  is_hidden[id] = true
end

local function list_of(fate)
  local suffix = is_hidden[fate.id] and '+' or ''
  if fate.kind == 'dead' then
    return qualified('dead', suffix), at
  end
  return list_name(fate.pieceMax and text(fate.pieceMax), fate.only, suffix), at + fate.delayMs
end

-- Whether any email of the batch has a mark.
local has_marks = false
for name in pairs(b) do
  has_marks = has_marks or string.sub(name, 1, 5) == 'mark:'
end

local function carry_out(fate)
  local id = fate.id
  local mark = has_marks and b['mark:' .. id]
  if fate.kind == 'sent' then
    accepted = accepted + 1
    if mark then
      accepted_again(id, mark)
    end
    return leave(id, fate.value)
  elseif mark then
    return leave(id, mark)
  end
  local name, time = list_of(fate)
  lists[name] = lists[name] or {}
  append(lists[name], text(time), id)
  moved[#moved + 1] = id
  if fate.history ~= '' then
    append(histories, id, fate.history)
  end
end

local function move()
  for name in pairs(lists) do
    -- Fails if the key has another type, before anything is written to any list.
    call('ZCARD', name)
    if string.sub(name, 1, 4) ~= 'dead' then
      local piece, provider, suffix = parts_of(name)
      if piece then
        call('SADD', qualified('splits', suffix), string.sub(name, #'split:' + 1))
      end
      if provider ~= '' then
        call('SADD', 'providers', provider)
      end
    end
  end
  if #histories > 0 then
    call('HSET', 'histories', unpack(histories))
  end
  for name, entries in pairs(lists) do
    call('ZADD', name, unpack(entries))
  end
  if #moved > 0 then
    call('HDEL', 'members', unpack(moved))
    call('ZREM', 'doubtful', unpack(moved))
  end
end

local function settle_ours()
  local rest, fault = rest_of()
  -- An operator has seen emails that its worker took out since, under the lease that had expired.
  if fault and s.held then
    return { 0 }
  elseif not rest then
    return fault and redis.error_reply(fault) or { 1 }
  end
  for _, fate in ipairs(s.fates) do
    carry_out(fate)
  end
  local is_over = all_marked(b, rest)
  count()
  note_rate()
  note_condition()
  to_sent(leaving, expiry)
  move()
  local ids = table.concat(rest, ' ')
  if is_over then
    drop_batch(batch, b)
  elseif s.keepsLease then
    call('HSET', 'batch:' .. batch, 'ids', ids)
  else
    call('HSET', 'batch:' .. batch, 'ids', ids, 'held', '0' .. b.suffix, 'lapsed', '0', 'notes', s.rest.notes)
    call('ZREM', 'leases:doubtful', batch)
    if not b.doubt then
      enter_doubt(batch, rest, at)
    end
    call('ZADD', batches_name(b), text(at + s.rest.delayMs), batch)
  end
  return { 1, unpack(duplicates) }
end

return ours and settle_ours() or settle_late()
