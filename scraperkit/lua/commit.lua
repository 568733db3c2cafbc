-- Settle finished jobs: acknowledge, count, schedule a retry or write a dead letter, and log one event each.
--
-- Deleting the stream entry (or finding one's claim) is what makes an outcome count, so it counts once, whoever
-- else worked on the same message meanwhile. Where the stream has vanished, what is done still counts, if its batch is
-- waiting for it.
--
-- Every call from a script costs about as much as all the rest of a job, so what can be asked or told of many jobs at
-- once is: states and histories are read before, and acknowledgements, states, counts and months written after.
--
-- KEYS: 1 job stream, 2 events, 3 dead letters, 4 retries, 5 history
-- ARGV: 1 group, 2 consumer, 3 worker instance, 4 events kept, 5 claim ttl in ms, 6 most attempts, 7 backoff in ms,
--       8 longest backoff in ms, 9 the jobs as JSON, 10 for each job its event as a line of JSON. A job is an array of
--       1 stream entry id or '', 2 message_id, 3 outcome (done, failed, fatal, ignored), 4 whether claims are laid,
--       5 error, 6 jitter from 0 to 1, 7 message ('' if done), 8 claim, 9 batch or '', 10 label,
--       11 fund card, '' if it is there, 12 cnpj, 13 pk, 14 months of the fund, 15 month as YYYY-MM
-- Returns the settled outcome of each job: done, retry, failed, dead, ignored or superseded.
local jobs, events, dead, retries, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, instance = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local given = cjson.decode(ARGV[9])
local event_of = string.gmatch(ARGV[10], '[^\n]+')

-- One hash, read for many fields at once, and written to at once.
local function hash(key)
  return {key = key, names = {}, values = {}, changed = {}, counts = {}}
end

local function want(h, name)
  h.names[#h.names + 1] = name
end

local function read(h)
  for i, value in ipairs(redis.call('HMGET', h.key, unpack(h.names))) do h.values[h.names[i]] = value end
end

local function put(h, name, value)
  h.values[name] = value
  h.changed[name] = value
end

local function add(h, word, step)
  h.counts[word] = (h.counts[word] or 0) + step
end

local function write(h)
  local words = {}
  for name, value in pairs(h.changed) do
    words[#words + 1] = name
    words[#words + 1] = value
  end
  if #words > 0 then redis.call('HSET', h.key, unpack(words)) end
  for word, step in pairs(h.counts) do
    if step ~= 0 then redis.call('HINCRBY', h.key, word, step) end
  end
end

local batches, months, past, acks = {}, {}, hash(history), {}
for _, job in ipairs(given) do
  local id, batch, fund = job[2], job[9], job[14]
  want(past, id)
  if batch ~= '' then
    batches[batch] = batches[batch] or hash(batch)
    want(batches[batch], id)
  end
  if fund ~= '' then months[fund] = months[fund] or hash(fund) end
end
if #given > 0 then read(past) end
for _, batch in pairs(batches) do read(batch) end

local function state_of(batch, id)
  local state = batches[batch] and batches[batch].values[id]
  return state and string.match(state, '^%a+')
end

local function owned_by_another(entry)
  local pending = redis.pcall('XPENDING', jobs, group, entry, entry, 1)
  return pending.err == nil and pending[1] ~= nil and pending[1][2] ~= consumer
end

local function settle_entry(entry, outcome, state)
  if outcome ~= 'done' and owned_by_another(entry) then return false end
  acks[#acks + 1] = entry
  local deleted = redis.call('XDEL', jobs, entry) == 1
  if state == 'done' then return false end
  return deleted or (outcome == 'done' and state == 'pending')
end

local function settle_claim(claim, claiming, batch)
  if claiming then
    local holder = redis.call('GET', claim)
    if holder and holder ~= instance then return false end
  end
  redis.call('SET', claim, 'finished ' .. batch, 'PX', ARGV[5])
  return true
end

local function count(batch, id, word, label, error)
  local before = state_of(batch, id)
  if not before or before == 'done' or before == word then return end
  if before == 'failed' or before == 'lost' or before == 'cancelled' then add(batches[batch], before, -1) end
  put(batches[batch], id, word .. ' ' .. label .. (error ~= '' and (' ' .. error) or ''))
  add(batches[batch], word, 1)
end

-- A message typed by hand brings no fund card, so one is begun with what the message tells.
local function note_month(card, cnpj, pk, fund, month)
  if card ~= '' then
    redis.call('HSETNX', card, 'cnpj', cnpj)
    redis.call('HSETNX', card, 'pk', pk)
  end
  if fund ~= '' then put(months[fund], month, time[1]) end
end

local answers = {}
for i, job in ipairs(given) do
  local entry, id, outcome, claiming, error, jitter, message, claim, batch, label = unpack(job, 1, 10)
  local event = event_of()
  local mine
  if entry ~= '' then mine = settle_entry(entry, outcome, state_of(batch, id)) else mine = settle_claim(claim, claiming, batch) end

  local attempt, answer = 1, 'superseded'
  if mine then
    local before = past.values[id] or ''
    if before ~= '' then attempt = select(2, string.gsub(before, '\n', '\n')) + 1 end
    if outcome == 'done' then
      answer = 'done'
      note_month(unpack(job, 11, 15))
      count(batch, id, 'done', label, '')
    elseif outcome == 'ignored' then
      answer = 'ignored'
    elseif outcome == 'failed' and entry ~= '' and attempt < tonumber(ARGV[6]) then
      answer = 'retry'
      local wait = math.min(tonumber(ARGV[8]), tonumber(ARGV[7]) * 2 ^ (attempt - 1))
      past.values[id] = before .. event .. '\n'
      redis.call('HSET', history, id, past.values[id])
      redis.call('ZADD', retries, string.format('%.0f', now + wait * (0.5 + tonumber(jitter) / 2)), message)
    else
      answer = 'failed'
      count(batch, id, 'failed', label, error)
      if entry ~= '' or outcome == 'fatal' then
        answer = 'dead'
        redis.call('XADD', dead, '*', 'message', message, 'error', error, 'worker', instance,
          'attempts', attempt, 'history', before .. event .. '\n')
      end
    end
    if before ~= '' and answer ~= 'retry' then
      past.values[id] = false
      redis.call('HDEL', history, id)
    end
  end
  redis.call('XADD', events, '*', 'outcome', answer, 'attempt', attempt, 'event', event)
  answers[i] = answer
end

if #acks > 0 then redis.pcall('XACK', jobs, group, unpack(acks)) end
for _, h in pairs(batches) do write(h) end
for _, h in pairs(months) do write(h) end
redis.call('XTRIM', events, 'MAXLEN', '~', ARGV[4])
return answers
