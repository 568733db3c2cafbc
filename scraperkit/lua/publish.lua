-- Publish messages of one batch, each at most once, however often this is called.
-- Returns {messages sent, smallest number of receivers or -1}.
local batch, jobs, channel = key(), key(), key()
local claims = keys(given.claims)
local sent, fewest = 0, -1

-- Open messages that were sent to the channel may be lost; adding them to the stream as well does no harm.
local before = redis.call('HGET', batch, 'delivery')
local moved = given.delivery == 'stream' and before == 'pubsub'

-- A batch with open stream messages stays a stream batch: as a channel batch, it would count them as lost, since they
-- have no claims.
local function is_open()
  local counts = redis.call('HMGET', batch, 'published', 'done', 'failed', 'lost', 'cancelled', 'not_offered')
  for i, count in ipairs(counts) do counts[i] = tonumber(count or 0) or 0 end
  return counts[1] > counts[2] + counts[3] + counts[4] + counts[5] + counts[6]
end
local delivery = before == 'stream' and is_open() and 'stream' or given.delivery

redis.call('HINCRBY', batch, 'published', 0)
if delivery == 'stream' then
  redis.pcall('XGROUP', 'CREATE', jobs, given.group, '0', 'MKSTREAM') -- an error means that it exists
end

local function send(i, id)
  local label = label_of(given.cnpj[i], given.month[i])
  if delivery == 'stream' then
    redis.call('XADD', jobs, '*', 'message', given.message[i])
    redis.call('HSET', batch, id, state_text('pending', label))
    return
  end
  -- All workers skip a message that is finished for this batch.
  if is_finished_for(claim_of(claims[i]), batch) then redis.call('DEL', claims[i]) end
  local receivers = redis.call('PUBLISH', channel, given.message[i])
  if fewest == -1 or receivers < fewest then fewest = receivers end
  if receivers > 0 then
    redis.call('HSET', batch, id, state_text('pending', label))
  else
    redis.call('HSET', batch, id, state_text('lost', label, 'no subscriber was listening'))
    redis.call('HINCRBY', batch, 'lost', 1)
  end
end

for i, id in ipairs(given.message_id) do
  local known = redis.call('HGET', batch, id)
  local state = read_state(known)
  if not known or is_over(state) or (moved and state ~= 'done') then
    send(i, id)
    if not known then
      redis.call('HINCRBY', batch, 'published', 1)
    elseif is_over(state) then
      redis.call('HINCRBY', batch, state, -1)
    end
    sent = sent + 1
  end
end
if sent > 0 or redis.call('HEXISTS', batch, 'delivery') == 0 then
  redis.call('HSET', batch, 'delivery', delivery, 'source', given.source, 'claim_ms', given.claim_ms)
end
if sent > 0 then redis.call('HSET', batch, 'published_at', redis.call('TIME')[1]) end
redis.call('EXPIRE', batch, given.batch_ttl)
return {sent, fewest}
