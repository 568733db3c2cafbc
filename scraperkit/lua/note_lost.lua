-- Write down messages that are lost with their worker, unless one is settled or another's meanwhile. The dead worker's
-- claims go with it: they would keep everybody else from the message until their lease is over.
-- Returns how many are lost.
local batch = key()
local claims = keys(#given.message_id)
local lost = 0
for i, id in ipairs(given.message_id) do
  local state, label = read_state(redis.call('HGET', batch, id))
  local claim = redis.call('GET', claims[i]) or ''
  if (state == 'pending' or state == 'running') and claim == given.claim[i] then
    redis.call('DEL', claims[i])
    redis.call('HSET', batch, id, state_text('lost', label, given.why[i]))
    redis.call('HINCRBY', batch, 'lost', 1)
    lost = lost + 1
  end
end
return lost
