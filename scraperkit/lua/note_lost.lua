-- Record lost messages, except those that were settled or claimed by another worker meanwhile. Delete a dead worker's
-- claims, which would keep others from the messages until the lease expires. Stream messages have no claims.
-- Returns how many are lost.
local batch, history = key(), key()
local claims = keys(given.claims)
local lost = 0
for i, id in ipairs(given.message_id) do
  local state, label = read_state(redis.call('HGET', batch, id))
  local same = not claims[i] or (claim_of(claims[i]) or '') == given.claim[i]
  if (state == 'pending' or state == 'running') and same then
    redis.call('HINCRBY', batch, 'lost', 1)
    redis.call('HSET', batch, id, state_text('lost', label, given.why[i]))
    if claims[i] then redis.call('DEL', claims[i]) end
    redis.call('HDEL', history, id)
    lost = lost + 1
  end
end
return lost
