#!lua
-- adopt: adds dead letters of another queue, with their ids. Refused when memory is full.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- then five for each email: id, time of its submission, time of its death, history, text
--
-- Returns "adopted", "known" or "deleted" for each, see AdoptAnswer of admin_contract.ts.

local at, answers = now(), {}
for i = 2, #ARGV, 5 do
  local id, submitted, died, history, content = unpack(ARGV, i, i + 4)
  local sent = call('HGET', 'sent', id)
  if sent and sent ~= moved then
    answers[#answers + 1] = string.sub(sent, 1, 2) == '-\n' and 'deleted' or 'known'
  elseif call('HEXISTS', 'emails', id) == 1 then
    answers[#answers + 1] = 'known'
  else
    -- In this order: if a command failed, the letter could be adopted again.
    call('ZADD', 'dead', text(math.min(died, at)), id)
    call('HSET', 'histories', id, history)
    call('HSET', 'emails', id, submitted .. '\n' .. content)
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
