-- Hand jobs back that this worker will not do: into the stream again, or out on the channel again.
--
-- KEYS: 1 job stream, 2 channel, then the claims held
-- ARGV: 1 group, 2 consumer, 3 worker instance, 4 number of stream entries, then those, then for each claim its message
-- Returns how many were handed back.
local entries, back = tonumber(ARGV[4]), 0
for i = 5, 4 + entries do
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending.err == nil and pending[1] and pending[1][2] == ARGV[2] then
    local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
    if entry then
      redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
      back = back + 1
    end
  end
end
for i = 3, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[3] then
    redis.call('DEL', KEYS[i])
    redis.call('PUBLISH', KEYS[2], ARGV[2 + entries + i])
    back = back + 1
  end
end
return back
