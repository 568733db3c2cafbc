-- Promises the next turn at a site, if it is not further ahead than `ahead_us`; turns are `apart_us` apart, by the clock
-- of Redis. Returns whether it is promised, and the microseconds until then; if not, those until it is worth asking.
local turn = key()
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local due = math.max(now, tonumber(redis.call('GET', turn) or 0))
local wait = due - now
if wait > given.ahead_us then return {0, wait - given.ahead_us} end
redis.call('SET', turn, string.format('%.0f', due + given.apart_us), 'PX', math.ceil((wait + given.apart_us) / 1000))
return {1, wait}
