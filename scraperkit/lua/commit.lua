-- Settle finished jobs: acknowledge, count, schedule a retry or write a dead letter, and log one event each.
--
-- An outcome counts only if the stream entry exists (or the claim is held), so it counts once, even if other workers
-- did the same message. If the stream has vanished, a job that is done still counts if its batch has it as pending or
-- lost.
--
-- Redis rolls nothing back if a later call is refused, so nothing is deleted before its replacement is written. If a
-- batch is not a hash, its messages only go uncounted.
--
-- Every call from a script costs about as much as all the rest of a job, so calls cover many jobs where possible:
-- states and histories are read before, and acknowledgements, states and counts written after.
--
-- The jobs come as one column for each field of `Settlement` in scripts.py, their events as lines in ARGV[2]. ARGV[3]
-- is the news of their stored months, empty if there are none.
--
-- Returns the settled outcome of each job: done, not_offered, retry, failed, dead, ignored or superseded; then why
-- Redis refused the news, empty if it did not: a user without the right to publish news loses nothing else.
local jobs, events, dead, retries, history = key(), key(), key(), key(), key()
local is_ours = has_name(key(), given.instance)
local channel = key()
local now = now_ms()
local event_of = string.gmatch(ARGV[2], '[^\n]+')

-- One hash, with many fields read and written at once.
local function hash(name)
  return {key = name, names = {}, values = {}, changed = {}, counts = {}}
end

local function want(h, name)
  h.names[#h.names + 1] = name
end

local function read(h, found)
  for i, value in ipairs(found) do h.values[h.names[i]] = value end
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
    if value then
      words[#words + 1] = name
      words[#words + 1] = value
    end
  end
  for word, step in pairs(h.counts) do
    if step ~= 0 then unless_strange(redis.pcall('HINCRBY', h.key, word, step)) end
  end
  if #words > 0 then redis.call('HSET', h.key, unpack(words)) end
end

local function delete(h)
  local names = {}
  for name, value in pairs(h.changed) do
    if not value then names[#names + 1] = name end
  end
  if #names > 0 then redis.call('HDEL', h.key, unpack(names)) end
end

local batches, past = {}, hash(history)
local letters, entries, claims, settled = {}, {}, {}, {}
-- A job that is done needs only its event: once one event is written, the others will be, and deleting an entry is
-- quicker than looking for it.
local is_logged = false
for i, id in ipairs(given.message_id) do
  local batch = given.batch[i]
  want(past, id)
  if batch ~= '' then
    batches[batch] = batches[batch] or hash(batch)
    want(batches[batch], id)
  end
end
if #given.message_id > 0 then read(past, redis.call('HMGET', history, unpack(past.names))) end
for name, batch in pairs(batches) do
  local found = unless_strange(redis.pcall('HMGET', name, unpack(batch.names)))
  if found then read(batch, found) else batches[name] = nil end
end

local function state_of(batch, id)
  if batches[batch] then return read_state(batches[batch].values[id]) end
end

local function owned_by_another(entry)
  local pending = redis.pcall('XPENDING', jobs, given.group, entry, entry, 1)
  return pending.err == nil and pending[1] ~= nil and not (is_ours and pending[1][2] == given.consumer)
end

local function settle_entry(entry, outcome, state)
  if outcome ~= 'done' and owned_by_another(entry) then return false end
  local is_there
  if outcome == 'done' and is_logged then
    is_there = redis.call('XDEL', jobs, entry) == 1
  else
    is_there = not settled[entry] and #redis.call('XRANGE', jobs, entry, entry) > 0
  end
  settled[entry] = true
  entries[#entries + 1] = entry
  if state == 'done' then return false end
  return is_there or (outcome == 'done' and (state == 'pending' or state == 'lost'))
end

local function settle_claim(claim, exclusive, batch)
  if exclusive then
    local found = claim_of(claim)
    if settled[claim] or found and holder_of(found) ~= given.instance then return false end
  end
  settled[claim] = true
  claims[#claims + 1] = {claim, finished_text(batch)}
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
    put(past, id, before .. event .. '\n')
    redis.call('ZADD', retries, string.format('%.0f', now + wait_before(attempt, given.jitter[i])), given.message[i])
    return 'retry'
  end
  count(given.batch[i], id, 'failed', given.error[i])
  if entry == '' and outcome ~= 'fatal' then return 'failed' end
  letters[#letters + 1] = {'message', given.message[i], 'error', given.error[i], 'worker', given.instance,
    'attempts', attempt, 'history', before .. event .. '\n'}
  return 'dead'
end

local outcomes = {}
for i, id in ipairs(given.message_id) do
  local entry, batch = given.entry[i], given.batch[i]
  local event = event_of()
  local mine
  if entry ~= '' then
    mine = settle_entry(entry, given.outcome[i], state_of(batch, id))
  else
    mine = settle_claim(given.claim[i], given.exclusive[i], batch)
  end

  local attempt, outcome = 1, 'superseded'
  if mine then
    local before = past.values[id] or ''
    if before ~= '' then attempt = select(2, string.gsub(before, '\n', '\n')) + 1 end
    outcome = outcome_of(i, id, attempt, before, event)
    if before ~= '' and outcome ~= 'retry' then put(past, id, false) end
  end
  redis.call('XADD', events, '*', 'outcome', outcome, 'attempt', attempt, 'event', event)
  is_logged = true
  outcomes[i] = outcome
end

write(past)
for _, letter in ipairs(letters) do redis.call('XADD', dead, '*', unpack(letter)) end
for _, batch in pairs(batches) do write(batch) end

if #entries > 0 then
  redis.call('XDEL', jobs, unpack(entries))
  redis.pcall('XACK', jobs, given.group, unpack(entries))
end
for _, claim in ipairs(claims) do redis.call('SET', claim[1], claim[2], 'PX', given.claim_ms) end
delete(past)
redis.call('XTRIM', events, 'MAXLEN', '~', given.events_kept)
local heard = ARGV[3] ~= '' and redis.pcall('PUBLISH', channel, ARGV[3])
return {outcomes, type(heard) == 'table' and heard.err or ''}
