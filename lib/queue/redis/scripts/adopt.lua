#!lua
-- adopt: adds dead letters of another queue, with their ids. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- then eight for each email: id, time of its submission, time of its death, history, text, 1 if it is hidden or else 0, number
--   of pieces of its files, and their bytes
--
-- Fails at the first email with missing pieces of files. Those before it are adopted.
--
-- Returns "adopted", "known" or "deleted" for each, see AdoptAnswer of admin_contract.ts.

local at, answers = now(), {}

-- In this order: if a command failed, the letter could be adopted again.
local function adopt(id, submitted, died, history, content, is_hidden, pieces, bytes)
  if is_hidden == '1' then
    mark_hidden()
  end
  if pieces ~= '0' then
    keep_files(id, bytes)
  end
  call('ZADD', is_hidden == '1' and 'dead:+' or 'dead', text(math.min(died, at)), id)
  call('HSET', 'histories', id, history)
  call('HSET', 'emails', id, submitted .. '\n' .. content)
end

for i = 2, #ARGV, 8 do
  local id, pieces = ARGV[i], tonumber(ARGV[i + 6])
  local sent = call('HGET', 'sent', id)
  if sent and sent ~= moved then
    answers[#answers + 1] = string.sub(sent, 1, 2) == '-\n' and 'deleted' or 'known'
  elseif call('HEXISTS', 'emails', id) == 1 then
    answers[#answers + 1] = 'known'
  elseif pieces > 0 and not has_files(id, pieces) then
    return redis.error_reply('adopt: pieces of files are missing')
  else
    adopt(unpack(ARGV, i, i + 7))
    if sent then
      call('ZREM', 'sent:expiry', id)
      call('ZREM', 'deleted', id)
      call('HDEL', 'sent', id)
    end
    answers[#answers + 1] = 'adopted'
  end
end
call('SET', 'mark', text(at))
return answers
