-- Renew the leases of the jobs in hand, unless they have become another's.
--
-- KEYS: 1 job stream, then the claims held
-- ARGV: 1 group, 2 consumer, 3 worker instance, 4 lease in ms, then the stream entries held
-- Returns how many were renewed.
local renewed = 0
for i = 5, #ARGV do
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending.err == nil and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    renewed = renewed + 1
  end
end
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[3] then
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
    renewed = renewed + 1
  end
end
return renewed
