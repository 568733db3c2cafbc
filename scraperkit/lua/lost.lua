-- Write down messages that are lost with their worker, unless one is settled or another's meanwhile.
--
-- KEYS: 1 batch hash, then the claim of each message
-- ARGV: for each message its id, why it is lost, and who held the claim ('' for nobody)
-- Returns how many are lost.
local batch, lost = KEYS[1], 0
for i = 2, #KEYS do
  local id, why, holder = ARGV[3 * i - 5], ARGV[3 * i - 4], ARGV[3 * i - 3]
  local state = redis.call('HGET', batch, id) or ''
  local word, label = string.match(state, '^(%a+) (%S+ %S+)')
  if (word == 'pending' or word == 'running') and (redis.call('GET', KEYS[i]) or '') == holder then
    redis.call('DEL', KEYS[i])
    redis.call('HSET', batch, id, 'lost ' .. label .. ' ' .. why)
    redis.call('HINCRBY', batch, 'lost', 1)
    lost = lost + 1
  end
end
return lost
