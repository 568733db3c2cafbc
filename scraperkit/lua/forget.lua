-- Forget workers that are dead and have nothing pending any more.
--
-- KEYS: 1 job stream, 2 workers, then for each name to look at its card
-- ARGV: 1 group, then those names
-- Returns the names forgotten.
local pending = {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if not consumers.err then
  for _, fields in ipairs(consumers) do
    pending[fields[2]] = fields[4]
  end
end
local forgotten = {}
for i = 2, #ARGV do
  local name = ARGV[i]
  if redis.call('EXISTS', KEYS[i + 1]) == 0 and (pending[name] or 0) == 0 then
    if pending[name] then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name) end
    redis.call('ZREM', KEYS[2], name)
    forgotten[#forgotten + 1] = name
  end
end
return forgotten
