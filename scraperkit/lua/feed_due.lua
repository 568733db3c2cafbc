-- Put the retries that are due back into the job stream.
-- Returns how many were moved.
local retries, jobs = key(), key()
local messages = redis.call('ZRANGEBYSCORE', retries, '-inf', now_ms(), 'LIMIT', 0, given.most)
for _, message in ipairs(messages) do
  redis.call('XADD', jobs, '*', 'message', message)
  redis.call('ZREM', retries, message)
end
return #messages
