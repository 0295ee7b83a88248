-- email_reply: what is told of one email; put before show and list.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms

-- { id, state, due or died at, stored text, history, what remains of a sent email, batch, its provider, its due time,
-- its doubt since, its notes, 1 if it is leased, 1 if a lease ran out without a settlement since }, "" for what there
-- is not; nothing for an unknown id. Read by email_codec.ts.
local function email(id, at)
  local function gone(value)
    local by = batch_of(value)
    local remains = string.sub(value, #by + 2)
    return { id, by == '-' and 'deleted' or 'sent', '', '', '', remains, '', '', '', '', '', '', '' }
  end
  local sent = redis.call('HGET', key('sent'), id)
  if sent then
    return gone(sent)
  end
  local stored = redis.call('HGET', key('emails'), id)
  if not stored then
    return nil
  end
  local history = redis.call('HGET', key('histories'), id) or ''
  local batch = redis.call('HGET', key('members'), id)
  if batch then
    local b = fields(batch, 'provider', 'doubt', 'held', 'until', 'notes', 'mark:' .. id, 'lapsed')
    if b[6] then
      return gone(b[6])
    end
    local is_leased = not is_free(b[3], b[4], at)
    local has_lapsed = b[3] == '1' and not is_leased
    local due = redis.call('ZSCORE', key('batches:' .. b[1]), batch)
    return { id, (b[2] or has_lapsed) and 'in-doubt' or 'sending', '', stored, history, '',
      batch, b[1], due, b[2] or '', b[5] or '', is_leased and '1' or '', (has_lapsed or b[7] == '1') and '1' or '' }
  end
  local state, since = 'dead', redis.call('ZSCORE', key('dead'), id)
  for _, name in ipairs(since and {} or due_names()) do
    since = since or redis.call('ZSCORE', key(name), id)
    state = tonumber(since or 0) > at and 'retrying' or 'waiting'
  end
  return { id, state, since or '', stored, history, '', '', '', '', '', '', '', '' }
end
