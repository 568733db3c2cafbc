-- Cancel messages of one batch that no worker has started. `handle` is a message's stream entry, or its text among the
-- retries; on the channel there is only the claim.
-- Returns how many were cancelled.
local batch, jobs, retries, history = key(), key(), key(), key()
local claims = keys(given.claims)

local function withdraw(i)
  if given.where == 'retries' then return redis.call('ZREM', retries, given.handle[i]) == 1 end
  if given.where == 'pubsub' then
    if not is_free(claim_of(claims[i]), batch) then return false end
    redis.call('SET', claims[i], finished_text(batch), 'PX', redis.call('HGET', batch, 'claim_ms') or 300000)
    return true
  end
  local entry = given.handle[i]
  local pending = redis.pcall('XPENDING', jobs, given.group, entry, entry, 1)
  if pending.err == nil and pending[1] then return false end
  return redis.call('XDEL', jobs, entry) == 1
end

local cancelled = 0
for i, id in ipairs(given.message_id) do
  local state, label = read_state(redis.call('HGET', batch, id))
  if state == 'pending' and withdraw(i) then
    redis.call('HSET', batch, id, state_text('cancelled', label))
    redis.call('HINCRBY', batch, 'cancelled', 1)
    redis.call('HDEL', history, id)
    cancelled = cancelled + 1
  end
end
return cancelled
