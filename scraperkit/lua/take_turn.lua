-- Reserve the next turn at a site, `apart_us` after the last, if it is at most `ahead_us` away; all by the clock of
-- Redis. Returns whether it is reserved, and the microseconds until the turn, or until it is worth asking again.
local turn = key()
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', turn) or -math.huge)
local due = math.max(now, last + given.apart_us)
local wait = due - now
if wait > given.ahead_us then return {0, wait - given.ahead_us} end
-- Long enough for the longest Crawl-delay, which others may have read by then.
local kept = wait + math.max(given.apart_us, given.longest_us)
redis.call('SET', turn, string.format('%.0f', due), 'PX', math.max(1, math.ceil(kept / 1000)))
return {1, wait}
