-- Put due retries back into the job stream.
-- Returns the milliseconds until the next one is due, or -1 if none waits.
local retries, jobs = key(), key()
local now = now_ms()
local messages = redis.call('ZRANGEBYSCORE', retries, '-inf', now, 'LIMIT', 0, given.most)
for _, message in ipairs(messages) do
  redis.call('XADD', jobs, '*', 'message', message)
  redis.call('ZREM', retries, message)
end
local next = redis.call('ZRANGE', retries, 0, 0, 'WITHSCORES')
return next[2] and math.max(0, math.ceil(next[2] - now)) or -1
