-- Settle finished jobs: acknowledge, count, schedule a retry or write a dead letter, and log one event each.
--
-- Deleting the stream entry (or finding one's claim) is what makes an outcome count, so it counts once, whoever
-- else worked on the same message meanwhile. Where the stream has vanished, what is done still counts, if its batch is
-- waiting for it.
--
-- KEYS: 1 job stream, 2 events, 3 dead letters, 4 retries, 5 history
-- ARGV: 1 group, 2 consumer, 3 worker instance, 4 events kept, 5 claim ttl in ms, 6 most attempts, 7 backoff in ms,
--       8 longest backoff in ms, 9 the jobs as JSON: for each an array of
--       1 stream entry id or '', 2 message_id, 3 outcome (done, failed, fatal, ignored), 4 whether claims are laid,
--       5 error, 6 jitter from 0 to 1, 7 event as JSON, 8 message ('' if done), 9 claim, 10 batch or '', 11 label,
--       12 fund card, '' if it is there, 13 cnpj, 14 pk, 15 months of the fund, 16 month as YYYY-MM
-- Returns the settled outcome of each job: done, retry, failed, dead, ignored or superseded.
local jobs, events, dead, retries, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, instance = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function owned_by_another(entry)
  local pending = redis.pcall('XPENDING', jobs, group, entry, entry, 1)
  return pending.err == nil and pending[1] ~= nil and pending[1][2] ~= consumer
end

local function state_of(batch, id)
  local state = batch ~= '' and redis.call('HGET', batch, id)
  return state and string.match(state, '^%a+')
end

local function settle_entry(entry, outcome, batch, id)
  if outcome ~= 'done' and owned_by_another(entry) then return false end
  redis.pcall('XACK', jobs, group, entry)
  local deleted = redis.call('XDEL', jobs, entry) == 1
  local state = state_of(batch, id)
  if state == 'done' then return false end
  return deleted or (outcome == 'done' and state == 'pending')
end

local function settle_claim(claim, claiming)
  if claiming then
    local holder = redis.call('GET', claim)
    if holder and holder ~= instance then return false end
  end
  redis.call('SET', claim, 'finished', 'PX', ARGV[5])
  return true
end

local function count(batch, id, word, label, error)
  local state = batch ~= '' and redis.call('HGET', batch, id)
  if not state then return end
  local before = string.match(state, '^%a+')
  if before == 'done' or before == word then return end
  if before == 'failed' or before == 'lost' then redis.call('HINCRBY', batch, before, -1) end
  redis.call('HSET', batch, id, word .. ' ' .. label .. (error ~= '' and (' ' .. error) or ''))
  redis.call('HINCRBY', batch, word, 1)
end

-- A message typed by hand brings no fund card, so one is begun with what the message tells.
local function note_month(card, cnpj, pk, months, month)
  if card ~= '' then
    redis.call('HSETNX', card, 'cnpj', cnpj)
    redis.call('HSETNX', card, 'pk', pk)
  end
  if months ~= '' then redis.call('HSET', months, month, time[1]) end
end

local answers = {}
for i, job in ipairs(cjson.decode(ARGV[9])) do
  local entry, id, outcome, claiming, error, jitter, event, message, claim, batch, label = unpack(job, 1, 11)
  local mine
  if entry ~= '' then mine = settle_entry(entry, outcome, batch, id) else mine = settle_claim(claim, claiming) end

  local attempt, answer = 1, 'superseded'
  if mine then
    local past = redis.call('HGET', history, id) or ''
    if past ~= '' then attempt = select(2, string.gsub(past, '\n', '\n')) + 1 end
    if outcome == 'done' then
      answer = 'done'
      note_month(unpack(job, 12, 16))
      count(batch, id, 'done', label, '')
    elseif outcome == 'ignored' then
      answer = 'ignored'
    elseif outcome == 'failed' and entry ~= '' and attempt < tonumber(ARGV[6]) then
      answer = 'retry'
      local wait = math.min(tonumber(ARGV[8]), tonumber(ARGV[7]) * 2 ^ (attempt - 1))
      redis.call('HSET', history, id, past .. event .. '\n')
      redis.call('ZADD', retries, string.format('%.0f', now + wait * (0.5 + tonumber(jitter) / 2)), message)
    else
      answer = 'failed'
      count(batch, id, 'failed', label, error)
      if entry ~= '' or outcome == 'fatal' then
        answer = 'dead'
        redis.call('XADD', dead, '*', 'message', message, 'error', error, 'worker', instance,
          'attempts', attempt, 'history', past .. event .. '\n')
      end
    end
    if past ~= '' and answer ~= 'retry' then redis.call('HDEL', history, id) end
  end
  redis.call('XADD', events, 'MAXLEN', '~', ARGV[4], '*', 'outcome', answer, 'attempt', attempt, 'event', event)
  answers[i] = answer
end
return answers
