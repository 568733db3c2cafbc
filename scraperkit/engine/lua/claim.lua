-- Lay claims on Pub/Sub messages: of all workers that received one, the first gets it.
--
-- KEYS: for each message its claim and its batch ('' if it has none)
-- ARGV: 1 worker instance, 2 lease in ms, 3 '1' to claim or '0' to join in (fan-out), then the message ids
-- Returns 1 for each message that is this worker's, else 0.
local mine = {}
for i = 1, #KEYS / 2 do
  local claim, batch, id = KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + i]
  local won
  if ARGV[3] == '1' then
    won = redis.call('SET', claim, ARGV[1], 'NX', 'PX', ARGV[2]) or redis.call('GET', claim) == ARGV[1]
  else
    redis.call('SET', claim, ARGV[1], 'PX', ARGV[2])
    won = true
  end
  if won and batch ~= '' then
    local state = redis.call('HGET', batch, id)
    local label = state and string.match(state, '^pending (.*)')
    if label then redis.call('HSET', batch, id, 'running ' .. label) end
  end
  mine[i] = won and 1 or 0
end
return mine
