-- Lay claims on Pub/Sub messages: of all workers that received one, the first gets it.
--
-- KEYS: for each message its claim and its batch ('' if it has none)
-- ARGV: 1 worker instance, 2 lease in ms, 3 '1' to claim or '0' to join in (fan-out), then the message ids
-- Returns 1 for each message that is this worker's, else 0.
local mine = {}
for i = 1, #KEYS / 2 do
  local claim, batch, id = KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + i]
  local won
  local holder = redis.call('GET', claim)
  -- The same job in another batch is to be done for that one, too.
  local over = holder and string.match(holder, '^finished (.*)')
  local free = not holder or (over and over ~= batch)
  if ARGV[3] ~= '1' or free then redis.call('SET', claim, ARGV[1], 'PX', ARGV[2]) end
  won = ARGV[3] ~= '1' or free or holder == ARGV[1]
  if won and batch ~= '' then
    local state = redis.call('HGET', batch, id)
    local label = state and string.match(state, '^pending (.*)')
    if label then redis.call('HSET', batch, id, 'running ' .. label) end
  end
  mine[i] = won and 1 or 0
end
return mine
