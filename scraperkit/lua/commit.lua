-- Settle finished jobs: acknowledge, count, schedule a retry or write a dead letter, and log one event each.
--
-- Deleting the stream entry (or holding the claim) is what makes an outcome count, so it counts once, whoever else
-- worked on the same message meanwhile. Where the stream has vanished, what is done still counts if its batch waits for
-- it, or has given it up.
--
-- Every call from a script costs about as much as all the rest of a job, so what can be asked or told of many jobs at
-- once is: states and histories are read before, and acknowledgements, states and counts written after.
--
-- The jobs come as one column for each field of `Settlement` in scripts.py, their events as lines in ARGV[2]. ARGV[3]
-- is the news of what was stored for them, empty if nothing was.
--
-- Returns the settled outcome of each job: done, not_offered, retry, failed, dead, ignored or superseded; then why Redis
-- refused the news, empty if it did not: a user who may not publish them loses nothing else.
local jobs, events, dead, retries, history = key(), key(), key(), key(), key()
local is_ours = has_name(key(), given.instance)
local channel = key()
local now = now_ms()
local event_of = string.gmatch(ARGV[2], '[^\n]+')

-- One hash, read for many fields at once, and written to at once.
local function hash(name)
  return {key = name, names = {}, values = {}, changed = {}, counts = {}}
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

local batches, past, acks = {}, hash(history), {}
for i, id in ipairs(given.message_id) do
  local batch = given.batch[i]
  want(past, id)
  if batch ~= '' then
    batches[batch] = batches[batch] or hash(batch)
    want(batches[batch], id)
  end
end
if #given.message_id > 0 then read(past) end
for _, batch in pairs(batches) do read(batch) end

local function state_of(batch, id)
  if batches[batch] then return read_state(batches[batch].values[id]) end
end

local function owned_by_another(entry)
  local pending = redis.pcall('XPENDING', jobs, given.group, entry, entry, 1)
  return pending.err == nil and pending[1] ~= nil and not (is_ours and pending[1][2] == given.consumer)
end

local function settle_entry(entry, outcome, state)
  if outcome ~= 'done' and owned_by_another(entry) then return false end
  acks[#acks + 1] = entry
  local deleted = redis.call('XDEL', jobs, entry) == 1
  if state == 'done' then return false end
  return deleted or (outcome == 'done' and (state == 'pending' or state == 'lost'))
end

local function settle_claim(claim, exclusive, batch)
  if exclusive then
    local found = redis.call('GET', claim)
    if found and holder_of(found) ~= given.instance then return false end
  end
  redis.call('SET', claim, finished_text(batch), 'PX', given.claim_ms)
  return true
end

local function count(batch, id, word, error)
  local before, label = state_of(batch, id)
  if not before or before == 'done' or before == word then return end
  if is_over(before) then add(batches[batch], before, -1) end
  put(batches[batch], id, state_text(word, label, error))
  add(batches[batch], word, 1)
end

local function wait_before(attempt, jitter)
  local longest = math.min(given.longest_backoff_ms, given.backoff_ms * 2 ^ (attempt - 1))
  return longest * (0.5 + jitter / 2)
end

local function outcome_of(i, id, attempt, before, event)
  local outcome, entry = given.outcome[i], given.entry[i]
  if outcome == 'done' then
    count(given.batch[i], id, 'done')
    return 'done'
  elseif outcome == 'ignored' then
    return 'ignored'
  elseif outcome == 'not_offered' then
    count(given.batch[i], id, 'not_offered', given.error[i])
    return 'not_offered'
  elseif outcome == 'failed' and entry ~= '' and attempt < given.max_attempts then
    past.values[id] = before .. event .. '\n'
    redis.call('HSET', history, id, past.values[id])
    redis.call('ZADD', retries, string.format('%.0f', now + wait_before(attempt, given.jitter[i])), given.message[i])
    return 'retry'
  end
  count(given.batch[i], id, 'failed', given.error[i])
  if entry == '' and outcome ~= 'fatal' then return 'failed' end
  redis.call('XADD', dead, '*', 'message', given.message[i], 'error', given.error[i], 'worker', given.instance,
    'attempts', attempt, 'history', before .. event .. '\n')
  return 'dead'
end

local answers = {}
for i, id in ipairs(given.message_id) do
  local entry, batch = given.entry[i], given.batch[i]
  local event = event_of()
  local mine
  if entry ~= '' then
    mine = settle_entry(entry, given.outcome[i], state_of(batch, id))
  else
    mine = settle_claim(given.claim[i], given.exclusive[i], batch)
  end

  local attempt, answer = 1, 'superseded'
  if mine then
    local before = past.values[id] or ''
    if before ~= '' then attempt = select(2, string.gsub(before, '\n', '\n')) + 1 end
    answer = outcome_of(i, id, attempt, before, event)
    if before ~= '' and answer ~= 'retry' then
      past.values[id] = false
      redis.call('HDEL', history, id)
    end
  end
  redis.call('XADD', events, '*', 'outcome', answer, 'attempt', attempt, 'event', event)
  answers[i] = answer
end

if #acks > 0 then redis.pcall('XACK', jobs, given.group, unpack(acks)) end
for _, batch in pairs(batches) do write(batch) end
redis.call('XTRIM', events, 'MAXLEN', '~', given.events_kept)
local heard = ARGV[3] ~= '' and redis.pcall('PUBLISH', channel, ARGV[3])
return {answers, type(heard) == 'table' and heard.err or ''}
