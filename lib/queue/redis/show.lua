-- show: where one email is, and what is kept of it.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] email id
--
-- Returns { state, stored text or "", history, what remains of a sent email or "" }, or nothing for an unknown id.

local at, id = now(), ARGV[2]
local history = redis.call('HGET', key('histories'), id) or ''
local email = redis.call('HGET', key('emails'), id) or ''

local sent = redis.call('HGET', key('sent'), id)
if sent then
  local batch = batch_of(sent)
  return { batch == '-' and 'deleted' or 'sent', '', '', string.sub(sent, #batch + 2) }
end
if email == '' then
  return nil
end
local batch = redis.call('HGET', key('members'), id)
if batch then
  local mark = mark_of(batch, id)
  if mark then
    return { 'sent', '', '', string.sub(mark, #batch_of(mark) + 2) }
  end
  local b = fields(batch, 'doubt', 'held', 'until')
  local doubtful = b[1] or (b[2] == '1' and tonumber(b[3]) <= at)
  return { doubtful and 'in-doubt' or 'sending', email, history, '' }
end
if redis.call('ZSCORE', key('dead'), id) then
  return { 'dead', email, history, '' }
end
local due = redis.call('ZSCORE', key('due'), id)
for _, provider in ipairs(redis.call('SMEMBERS', key('providers'))) do
  due = due or redis.call('ZSCORE', key('due:' .. provider), id)
end
return { tonumber(due) > at and 'retrying' or 'waiting', email, history, '' }
