#!lua flags=allow-oom
-- claim: leases one batch, and records the lease durably in the same step.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] request, JSON:
--   claimant, number     who claims, and the number of this claim
--   leaseMs              lease, to which a second is added for each 256 KiB of the batch's emails and their files
--   sources              where to look, in this order: "emails", "split", "batches"; or "ended" alone, for batches of
--                        any provider whose doubt has ended
--   except for "ended", as ClaimRequest in contract.ts: claimId, provider, credential, shared, countMax, bytesMax,
--                        doubtMs, context, dueCountMax, startPerSecond
--   only_looks           if true, leases nothing, and answers with the kind "due" where it would
--
-- Reads only the lists of this provider and those for all, so that another provider's backlog costs it nothing.
--
-- Returns a ClaimResult of contract.ts as JSON, with pauseVersion if claims are paused; its batch has the ids of its
-- emails, its servedProviders and the ids that are marked, each separated by spaces. What would be too large for JSON
-- follows: for each email "<submitted at, Unix ms>\n<text>", then id and history of each email that has a history.

local at, request = now(), cjson.decode(ARGV[2])
local provider = request.provider
-- The rate whose permit this claim needs, if any.
local rate_key = request.startPerSecond and rate_name(provider, request.credential)
local rate = rate_key and rate_of(rate_key, at, request.startPerSecond)

-- The lists of due emails that any provider may take. Scheduled emails are due like all others once their time has come.
local shared_lists = has_hidden and { 'due', 'due:+', 'scheduled' } or { 'due' }

local function answer(result)
  result.rate = rate and shared_rate(rate, at)
  return { cjson.encode(result) }
end

-- The reply with a leased batch.
local function reply_with(batch, b, ids, emails, h)
  local histories = call('HMGET', 'histories', unpack(ids))
  local credential = request.credential or b.credential
  local acceptances = call('HGET', 'acceptances', b.provider .. ' ' .. credential) or '0'
  local left, left_max = 0, request.dueCountMax or 0
  if left_max > 0 then
    for _, name in ipairs(shared_lists) do
      left = left + call('ZCOUNT', name, '-inf', text(at))
    end
    left = math.min(left_max, left)
  end
  local reply = answer({ kind = 'batch', dueLeft = left, batch = {
    id = batch, provider = b.provider, lease = tonumber(b.lease), nowMs = at, leaseEndsAtMs = tonumber(b['until']),
    doubtEndsAtMs = tonumber(b.ends), doubtSinceMs = tonumber(b.doubt), leaseExpired = b.lapsed == '1',
    context = b.context, notes = b.notes or '', pieceMax = tonumber(b.piece), credential = b.credential,
    acceptances = tonumber(acceptances), servedProviders = h.served, clockSteppedAtMs = (last_step(h, at)),
    ids = b.ids, marked = marked_of(b) } })
  for i = 1, #ids do
    reply[i + 1] = emails[i] or ''
  end
  for i, id in ipairs(ids) do
    if histories[i] then
      append(reply, id, histories[i])
    end
  end
  return reply
end

-- When this claimant made its last claim, if it ever made one.
local seen

-- Records this claim; batch "-" if it found nothing.
local function remember(batch, lease)
  local value = text(request.number) .. ' ' .. batch .. ' ' .. lease .. ' ' .. text(at)
  call('HSET', 'claimants', request.claimant, value)
  if not seen or math.abs(at - seen) > 60000 then
    call('ZADD', 'claimants:seen', text(at), request.claimant)
  end
end

-- The reply to a claim that was made before: the same batch while its lease lasts, else "spent". Nothing for a new
-- claim, or for the last one if it found nothing: it may look again.
local function claimed_before()
  local last = call('HGET', 'claimants', request.claimant)
  if not last then
    return nil
  end
  local number, batch, lease_number, time = unpack(words(last))
  number, seen = tonumber(number), tonumber(time)
  if request.number > number or (request.number == number and batch == '-') then
    return nil
  end
  call('SET', 'mark', text(at))
  if request.number == number then
    local b = record(batch)
    if b.lease == lease_number and not is_free(b, at) then
      local ids = words(b.ids)
      return reply_with(batch, b, ids, emails_of(ids), housekeeping())
    end
  end
  return answer({ kind = 'spent' })
end

-- Leases a batch. `bytes` is the size of its emails and their files; `b` are its fields, stored already or not. After a
-- lease that expired without a settlement, the batch is in doubt.
local function lease(batch, b, h, ids, emails, bytes)
  local length = request.leaseMs + 1000 * math.floor(bytes / 262144)
  local has_expired = b.held == '1'
  -- Doubt cannot have begun later than now: otherwise no search would ever be late enough.
  if (has_expired and not b.doubt) or (b.doubt and tonumber(b.doubt) > at + step_min) then
    b.doubt = text(at)
    enter_doubt(batch, ids, at)
  end
  if not b.ends then
    b.began, b.ends = text(at), text(at + request.doubtMs)
    call('ZADD', qualified('ends', b.suffix), b.ends, batch)
  end
  b.lease, b['until'], b.lapsed = text(b.lease + 1), text(at + length), has_expired and '1' or '0'
  call('HSET', 'batch:' .. batch, 'lease', b.lease, 'held', '1' .. b.suffix, 'until', b['until'], 'length', text(length),
    'began', b.began, 'ends', b.ends, 'lapsed', b.lapsed)
  call('ZADD', batches_name(b), b['until'], batch)
  call('ZADD', b.doubt and 'leases:doubtful' or 'leases', b['until'], batch)
  if rate then
    take_permit(rate_key, rate, at)
  end
  remember(batch, b.lease)
  return reply_with(batch, b, ids, emails, h)
end

local function lease_again(batch, h)
  local b = record(batch)
  local ids = words(b.ids)
  local emails, bytes = emails_of(ids), 0
  for i = 1, #ids do
    bytes = bytes + #(emails[i] or '')
  end
  for _, size in pairs(b.suffix == '+' and sizes_of(ids) or {}) do
    bytes = bytes + size
  end
  return lease(batch, b, h, ids, emails, bytes)
end

local next_due
local function is_due(time)
  time = tonumber(time)
  if time and time > at and (not next_due or time < next_due) then
    next_due = time
  end
  return time and time <= at
end

-- Whether a batch in doubt, or about to be, was first sent with another credential that a live worker has. That worker
-- then resolves the doubt.
local function belongs_to_another_worker(b, h)
  return (b.doubt or b.held == '1') and b.credential ~= request.credential
    and string.find(h.credentials, ' ' .. provider .. ':' .. b.credential .. ' ', 1, true)
end

-- How many batches of a list are looked at together.
local batches_page = 100

local function take_batch()
  local names, h = {}, nil
  for i, suffix in ipairs(suffixes) do
    names[i] = 'batches:' .. provider .. suffix
  end
  for page = 0, 9 do
    local due = oldest_of(names, at, page * batches_page, batches_page, 2 * batches_page)
    for _, batch in ipairs(due) do
      h = h or housekeeping()
      if not belongs_to_another_worker(fields(batch, 'doubt', 'held', 'credential'), h) then
        if request.only_looks then
          return answer({ kind = 'due' })
        end
        return lease_again(batch, h)
      end
    end
    if #due < batches_page then
      break
    end
  end
  for _, name in ipairs(names) do
    is_due(call('ZRANGEBYSCORE', name, '(' .. text(at), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  end
end

-- Makes a batch of the oldest emails in these lists, within the limits of number and bytes.
local function take(names, most, piece)
  local oldest, is_hidden, used = oldest_of(names, at, 0, most, most)
  local taken, ids, emails, bytes = fitting(oldest, is_hidden, request.bytesMax)
  if request.only_looks and #ids > 0 then
    return answer({ kind = 'due' })
  end
  if #taken > 0 then
    for _, name in ipairs(used) do
      call('ZREM', name, unpack(taken))
    end
  end
  if #ids == 0 then
    return nil
  end
  local members, hidden = {}, {}
  for _, id in ipairs(ids) do
    append(members, id, request.claimId)
  end
  for _, id in ipairs(next(is_hidden) and ids or {}) do
    hidden[#hidden + 1] = is_hidden[id] and id
  end
  call('HSET', 'members', unpack(members))
  call('SADD', 'providers', provider)
  local b = { provider = provider, ids = table.concat(ids, ' '), lease = '0', context = request.context,
    credential = request.credential, piece = piece, suffix = #hidden > 0 and '+' or '' }
  local stored = { 'provider', provider .. b.suffix, 'ids', b.ids, 'context', b.context, 'credential', b.credential,
    'piece', piece or '' }
  if #hidden > 0 then
    append(stored, 'hidden', table.concat(hidden, ' '))
  end
  call('HSET', 'batch:' .. request.claimId, unpack(stored))
  return lease(request.claimId, b, housekeeping(), ids, emails, bytes)
end

local is_idle = false
local function take_emails()
  local names = request.shared and { unpack(shared_lists) } or {}
  for _, suffix in ipairs(suffixes) do
    names[#names + 1] = list_name(nil, provider, suffix)
  end
  local reply = take(names, request.countMax)
  if not reply then
    is_idle = request.shared
    for _, name in ipairs(names) do
      is_due(head_of(name))
    end
  end
  return reply
end

-- Takes from the list whose first email has waited longest, and from the other lists of that size.
local function take_split()
  local oldest, size
  for _, suffix in ipairs(suffixes) do
    for _, split in ipairs(call('SMEMBERS', qualified('splits', suffix))) do
      local piece, owner = parts_of('split:' .. split)
      if owner == '' or owner == provider then
        local head = head_of('split:' .. split)
        if not head then
          call('SREM', qualified('splits', suffix), split)
        elseif is_due(head) and (not oldest or tonumber(head) < oldest) then
          oldest, size = tonumber(head), piece
        end
      end
    end
  end
  local names = {}
  for _, suffix in ipairs(size and suffixes or {}) do
    append(names, list_name(size, nil, suffix), list_name(size, provider, suffix))
  end
  return size and take(names, math.min(tonumber(size), request.countMax), size)
end

-- Takes nothing for an hour after the clock stepped by more than a minute, nor before a sweep has looked at the clock
-- again: it may have stepped just now.
local function take_ended()
  local h = housekeeping()
  local is_vouched = not h.swept or math.abs(at - h.swept) <= 60000
  if is_vouched and (not h.ends_from or tonumber(h.ends_from) <= at) then
    local names = has_hidden and { 'ends', 'ends:+' } or { 'ends' }
    local ended = oldest_of(names, at, 0, batches_page, 2 * batches_page)
    for _, batch in ipairs(ended) do
      if is_free(fields(batch, 'held', 'until'), at) then
        return lease_again(batch, h)
      end
    end
  end
  return answer({ kind = 'empty' })
end

local before = claimed_before()
if before then
  return before
end
-- The claim was made long ago and forgotten. As a new one it would send other emails under a key that was used.
if request.claimId and call('EXISTS', 'batch:' .. request.claimId) == 1 then
  return answer({ kind = 'spent' })
end
if call('EXISTS', 'paused') == 1 then
  return answer({ kind = 'paused', pauseVersion = pause_version() })
end
if rate and permit_in(rate, at) > 0 then
  return answer({ kind = 'limited' })
end
local look = { emails = take_emails, split = take_split, batches = take_batch, ended = take_ended }
for _, source in ipairs(request.sources) do
  local reply = look[source]()
  if reply then
    return reply
  end
end
remember('-', '0')
if is_idle then
  call('SET', 'idle', '1')
end
return answer({ kind = 'empty', nextDueInMs = next_due and next_due - at })
