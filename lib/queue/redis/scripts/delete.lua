#!lua flags=allow-oom
-- delete: deletes emails that are in no batch; their ids stay known for a while.
--
-- KEYS[1] partition
-- ARGV[1] clock offset, ms
-- ARGV[2] how long their ids stay known, ms
-- ARGV[3] number of histories: 0, or one for each email if only dead letters are meant
-- ARGV[4] 1 if another queue has adopted them, else 0. Repeating it gives the same answers
-- then those histories, then the email ids
--
-- Returns "deleted", "in-batch" or "unknown" for each; if only dead letters are meant, "changed" for an email that is not
-- dead, or has died again since it was seen with its history.

local ids, answers, taken, seen = {}, {}, {}, tonumber(ARGV[3])

for i = 5 + seen, #ARGV do
  local id, answer = ARGV[i], 'unknown'
  local is_present = not taken[id] and call('HEXISTS', 'emails', id) == 1
  if is_present and seen > 0 and not is_dead_as_seen(id, ARGV[i - seen]) then
    answer = 'changed'
  elseif call('HEXISTS', 'members', id) == 1 then
    answer = 'in-batch'
  elseif is_present then
    answer, taken[id] = 'deleted', true
    ids[#ids + 1] = id
  elseif ARGV[4] == '1' and call('HGET', 'sent', id) == moved then
    answer = 'deleted'
  end
  answers[#answers + 1] = answer
end
delete(ids, now() + ARGV[2], ARGV[4] == '1' and moved or nil)
return answers
