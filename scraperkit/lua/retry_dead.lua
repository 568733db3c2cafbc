-- Put a dead letter back into the job stream, once.
--
-- KEYS: 1 dead letters, 2 job stream, 3 batch or ''
-- ARGV: 1 id of the dead letter, 2 group, 3 message_id
-- Returns 1, or 0 if somebody else has done it.
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return 0 end
local message = ''
for i = 1, #letter[2], 2 do
  if letter[2][i] == 'message' then message = letter[2][i + 1] end
end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM') -- an error says that it is there
redis.call('XADD', KEYS[2], '*', 'message', message)
local state = KEYS[3] ~= '' and redis.call('HGET', KEYS[3], ARGV[3])
local label = state and string.match(state, '^failed (%S+ %S+)')
if label then
  redis.call('HSET', KEYS[3], ARGV[3], 'pending ' .. label)
  redis.call('HINCRBY', KEYS[3], 'failed', -1)
end
return 1
