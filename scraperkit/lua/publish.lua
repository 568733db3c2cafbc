-- Publish messages of one batch, each at most once, however often this is called.
-- Returns {messages sent, smallest number of receivers or -1}.
local batch, target = key(), key()
local claims = keys(given.claims)
local sent, fewest = 0, -1

-- What was sent to the channel and is open may be lost; adding it to the stream as well does no harm.
local moved = given.delivery == 'stream' and redis.call('HGET', batch, 'delivery') == 'pubsub'
redis.call('HINCRBY', batch, 'published', 0)
if given.delivery == 'stream' then
  redis.pcall('XGROUP', 'CREATE', target, given.group, '0', 'MKSTREAM') -- an error says that it is there
end

local function send(i, id)
  local label = label_of(given.cnpj[i], given.month[i])
  if given.delivery == 'stream' then
    redis.call('HSET', batch, id, state_text('pending', label))
    redis.call('XADD', target, '*', 'message', given.message[i])
    return
  end
  -- Finished for this batch, it would be skipped by everybody.
  if is_finished_for(redis.call('GET', claims[i]), batch) then redis.call('DEL', claims[i]) end
  local receivers = redis.call('PUBLISH', target, given.message[i])
  if fewest == -1 or receivers < fewest then fewest = receivers end
  if receivers > 0 then
    redis.call('HSET', batch, id, state_text('pending', label))
  else
    redis.call('HSET', batch, id, state_text('lost', label, 'nobody was listening'))
    redis.call('HINCRBY', batch, 'lost', 1)
  end
end

for i, id in ipairs(given.message_id) do
  local known = redis.call('HGET', batch, id)
  local state = read_state(known)
  if not known or is_over(state) or (moved and state ~= 'done') then
    if not known then
      redis.call('HINCRBY', batch, 'published', 1)
    elseif is_over(state) then
      redis.call('HINCRBY', batch, state, -1)
    end
    send(i, id)
    sent = sent + 1
  end
end
if sent > 0 or redis.call('HEXISTS', batch, 'delivery') == 0 then
  redis.call('HSET', batch, 'delivery', given.delivery, 'source', given.source, 'claim_ms', given.claim_ms)
end
if sent > 0 then redis.call('HSET', batch, 'published_at', redis.call('TIME')[1]) end
redis.call('EXPIRE', batch, given.batch_ttl)
return {sent, fewest}
