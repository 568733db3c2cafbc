-- Forget dead workers that have nothing pending.
-- Returns the names forgotten.
local jobs, workers = key(), key()
local cards = keys(#given.name)
local pending = {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', jobs, given.group)
if not consumers.err then
  for _, fields in ipairs(consumers) do
    pending[fields[2]] = fields[4]
  end
end
local forgotten = {}
for i, name in ipairs(given.name) do
  if redis.call('EXISTS', cards[i]) == 0 and (pending[name] or 0) == 0 then
    if pending[name] then redis.call('XGROUP', 'DELCONSUMER', jobs, given.group, name) end
    redis.call('ZREM', workers, name)
    forgotten[#forgotten + 1] = name
  end
end
return forgotten
