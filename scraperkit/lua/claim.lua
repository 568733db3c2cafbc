-- Claim Pub/Sub messages: the first of all workers that received one gets it; without `exclusive`, each does.
-- Returns 1 for each message that is this worker's, else 0.
local claims = keys(#given.message_id)
local mine = {}
for i, id in ipairs(given.message_id) do
  local batch = given.batch[i]
  local claim = claim_of(claims[i])
  local free = not given.exclusive or is_free(claim, batch)
  if free then
    redis.call('SET', claims[i], held_text(given.instance, given.lease_ms, given.silence_ms), 'PX', given.lease_ms)
  end
  local won = free or holder_of(claim) == given.instance
  if won and batch ~= '' then
    local state, label = read_state(field_of(batch, id))
    if state == 'pending' then redis.call('HSET', batch, id, state_text('running', label)) end
  end
  mine[i] = won and 1 or 0
end
return mine
