-- Renew the leases of the jobs in hand, except those that another worker has taken. The lease of an entry that is gone
-- from the stream is not renewed: XCLAIM would drop it from the pending list, the only record that it is in hand.
-- Returns how many were renewed.
local jobs = key()
local claims = keys(given.claims)
local renewed = 0
for _, entry in ipairs(given.entry) do
  local pending = redis.pcall('XPENDING', jobs, given.group, entry, entry, 1)
  if pending.err == nil and pending[1] and pending[1][2] == given.consumer then
    if #redis.call('XRANGE', jobs, entry, entry) > 0 then
      redis.call('XCLAIM', jobs, given.group, given.consumer, 0, entry, 'JUSTID')
    end
    renewed = renewed + 1
  end
end
for _, claim in ipairs(claims) do
  if holder_of(claim_of(claim)) == given.instance then
    redis.call('PEXPIRE', claim, given.lease_ms)
    renewed = renewed + 1
  end
end
return renewed
