-- Put the retries that are due back into the job stream.
--
-- KEYS: 1 retries, 2 job stream
-- ARGV: 1 how many at most
-- Returns how many were moved.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local messages = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, message in ipairs(messages) do
  redis.call('XADD', KEYS[2], '*', 'message', message)
  redis.call('ZREM', KEYS[1], message)
end
return #messages
