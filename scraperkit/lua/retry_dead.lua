-- Put a dead letter back into the job stream, once. It is deleted last: Redis rolls nothing back if a call is refused.
-- Returns 1, or 0 if another call has done it.
local dead, jobs, batch = key(), key(), key()
local letter = redis.call('XRANGE', dead, given.letter, given.letter)[1]
if not letter then return 0 end
local message = ''
for i = 1, #letter[2], 2 do
  if letter[2][i] == 'message' then message = letter[2][i + 1] end
end
redis.pcall('XGROUP', 'CREATE', jobs, given.group, '0', 'MKSTREAM') -- an error means that it exists
redis.call('XADD', jobs, '*', 'message', message)
local state, label = read_state(batch and field_of(batch, given.message_id))
if state == 'failed' then
  redis.call('HSET', batch, given.message_id, state_text('pending', label))
  redis.call('HINCRBY', batch, 'failed', -1)
end
redis.call('XDEL', dead, given.letter)
return 1
