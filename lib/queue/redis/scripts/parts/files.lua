-- files: the files of stored emails. scripts.ts inserts it where it is needed, after hidden.lua.

-- Whether all pieces of an email's files are there.
local function has_files(id, pieces)
  return call('HLEN', 'files:' .. id) == pieces
end

-- Makes the files of an email permanent. The entry in `sizes` comes first, because nothing would remove files without it.
local function keep_files(id, bytes)
  call('HSET', 'sizes', id, text(bytes))
  call('INCRBY', 'sizes:total', text(bytes))
  call('PERSIST', 'files:' .. id)
end

local function drop_files(ids)
  local dropped, total = {}, 0
  for i, size in ipairs(call('HMGET', 'sizes', unpack(ids))) do
    if size then
      dropped[#dropped + 1], total = ids[i], total + size
      call('UNLINK', 'files:' .. ids[i])
    end
  end
  if #dropped > 0 then
    call('HDEL', 'sizes', unpack(dropped))
    call('DECRBY', 'sizes:total', text(total))
  end
end
