-- Cancel messages of one batch that nobody has begun.
--
-- KEYS: 1 batch, 2 job stream, 3 retries, 4 history, then for each message its claim
-- ARGV: 1 where the messages wait (stream, retries or pubsub), 2 group, 3 ms that a claim is remembered, then for each
--       message: message_id, and its stream entry, its text among the retries, or '' (pubsub)
-- Returns how many were cancelled.
local batch, jobs, retries, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function withdraw(where, handle, claim)
  if where == 'retries' then return redis.call('ZREM', retries, handle) == 1 end
  if where == 'pubsub' then
    local holder = redis.call('GET', claim)
    local over = holder and string.match(holder, '^finished (.*)')
    if holder and (not over or over == batch) then return false end
    redis.call('SET', claim, 'finished ' .. batch, 'PX', ARGV[3])
    return true
  end
  local pending = redis.pcall('XPENDING', jobs, ARGV[2], handle, handle, 1)
  if pending.err == nil and pending[1] then return false end
  return redis.call('XDEL', jobs, handle) == 1
end

local cancelled = 0
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local state = redis.call('HGET', batch, id)
  local label = state and string.match(state, '^pending (%S+ %S+)')
  if label and withdraw(ARGV[1], ARGV[i + 1], KEYS[4 + (i - 2) / 2]) then
    redis.call('HSET', batch, id, 'cancelled ' .. label)
    redis.call('HINCRBY', batch, 'cancelled', 1)
    redis.call('HDEL', history, id)
    cancelled = cancelled + 1
  end
end
return cancelled
