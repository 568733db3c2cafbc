-- Publish messages of one batch, each at most once, however often this is called.
--
-- KEYS: 1 batch hash, 2 job stream or channel
-- ARGV: 1 delivery, 2 seconds to remember the batch, 3 group, then for each message: message_id, label ("<cnpj> <MM/YYYY>"), message
-- Returns {messages sent, smallest number of receivers or -1}.
local batch, target, delivery = KEYS[1], KEYS[2], ARGV[1]
local sent, fewest = 0, -1
-- What was said on the channel and is open may be lost; that it is added to the stream as well does no harm.
local moved = delivery == 'stream' and redis.call('HGET', batch, 'delivery') == 'pubsub'
redis.call('HINCRBY', batch, 'published', 0)
if delivery == 'stream' then
  redis.pcall('XGROUP', 'CREATE', target, ARGV[3], '0', 'MKSTREAM') -- an error says that it is there
end

for i = 4, #ARGV, 3 do
  local id, label, message = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local state = redis.call('HGET', batch, id)
  local word = state and string.match(state, '^%a+')
  local over = word == 'failed' or word == 'lost' or word == 'cancelled'
  if not state or over or (moved and word ~= 'done') then
    if not state then
      redis.call('HINCRBY', batch, 'published', 1)
    elseif over then
      redis.call('HINCRBY', batch, word, -1)
    end
    if delivery == 'stream' then
      redis.call('HSET', batch, id, 'pending ' .. label)
      redis.call('XADD', target, '*', 'message', message)
    else
      local receivers = redis.call('PUBLISH', target, message)
      if fewest == -1 or receivers < fewest then fewest = receivers end
      if receivers > 0 then
        redis.call('HSET', batch, id, 'pending ' .. label)
      else
        redis.call('HSET', batch, id, 'lost ' .. label .. ' nobody was listening')
        redis.call('HINCRBY', batch, 'lost', 1)
      end
    end
    sent = sent + 1
  end
end
redis.call('HSET', batch, 'delivery', delivery)
if sent > 0 then redis.call('HSET', batch, 'published_at', redis.call('TIME')[1]) end
redis.call('EXPIRE', batch, ARGV[2])
return {sent, fewest}
