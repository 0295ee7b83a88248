-- sweep_hidden: housekeeping of hidden emails. scripts.ts inserts it after emails.lua, for housekeeping.lua.

-- Each sweep looks at this many random entries and removes those whose email or batch is gone: the previous release
-- removes an email or batch without its entries here.
local looked_at = 100

local function is_gone(id)
  return call('HEXISTS', 'emails', id) == 0
end

local function is_batch_gone(batch)
  return call('EXISTS', 'batch:' .. batch) == 0
end

local function sweep_list(name, is_entry_gone)
  for _, entry in ipairs(call('ZRANDMEMBER', name, looked_at)) do
    if is_entry_gone(entry) then
      call('ZREM', name, entry)
    end
  end
end

local function sweep_files()
  local gone, total, found = {}, 0, call('HRANDFIELD', 'sizes', looked_at, 'WITHVALUES')
  for i = 1, #found, 2 do
    if is_gone(found[i]) then
      gone[#gone + 1] = found[i]
    end
    total = total + found[i + 1]
  end
  if #found < 2 * looked_at and total ~= tonumber(call('GET', 'sizes:total') or '0') then
    call('SET', 'sizes:total', text(total))
  end
  if #gone > 0 then
    drop_files(gone)
  end
end

-- Whether there may still be hidden emails: each is in a list or a batch, and each batch is in a list.
local function has_any_hidden()
  for _, name in ipairs(due_names()) do
    if is_hidden_list(name) and call('EXISTS', name) == 1 then
      return true
    end
  end
  return call('EXISTS', 'dead:+') == 1 or call('EXISTS', 'ends:+') == 1 or call('EXISTS', 'sizes') == 1
end

local function sweep_hidden()
  sweep_list('scheduled', is_gone)
  sweep_list('dead:+', is_gone)
  sweep_list('ends:+', is_batch_gone)
  sweep_files()
  if not has_any_hidden() then
    call('DEL', 'hidden')
    call('HDEL', 'housekeeping', 'hidden_step_at')
  end
end
