-- Replace months of one fund with fetched ones, unless a newer fetch has replaced them: the time of a fetch, by the
-- clock of Redis, is its fencing token. Idempotent: the same fetch gets the same reply again.
--
-- The months come as one column for each field of `MonthFetched` in scripts.py, except the words of TS.MADD, which are
-- in ARGV[2] and after; `samples` is the number of samples of each month. Only samples that differ from stored ones are
-- written, so an equal month costs no write. Changed samples are logged; samples of new days are not.
--
-- The series are those of the class and of the fetched subclasses, all metrics of each. A fetch that `is_whole` has all
-- subclasses: if others are stored, nothing is done, and the reply is {'others', their keys ...}.
--
-- Returns, for each month with something to report, {its number, samples changed, samples withdrawn}, or
-- {its number, 'refused', series, time, why} for the first sample that was refused, or {its number, 0, 0, '', true} if
-- nothing was written because the same, or something newer, was already stored.
local card, months, changes = key(), key(), key()
local series = keys(#KEYS - 3)

-- Lua unpacks at most 8,000 values at once, fewer than the words of a month of twenty subclasses. So words are split
-- into portions of whole samples, each given by its first and last place.
local function portions(first, last)
  local at_once = 6000
  local from = first - at_once
  return function()
    from = from + at_once
    if from <= last then return from, math.min(from + at_once - 1, last) end
  end
end

if given.is_whole then
  local others, known, metrics = {'others'}, {}, {}
  for _, name in ipairs(series) do known[name] = true end
  for _, metric in ipairs(given.metrics) do metrics[metric] = true end
  local prefix = given.namespace .. ':{' .. given.cnpj .. '}:'
  for _, name in ipairs(redis.call('TS.QUERYINDEX', 'kit=' .. given.namespace, 'cnpj=' .. given.cnpj)) do
    -- Skip series that have these labels but are not the kit's.
    local is_ours = string.sub(name, 1, #prefix) == prefix and metrics[string.match(name, '[^:]*$')]
    if is_ours and not known[name] then others[#others + 1] = name end
  end
  if #others > 1 then return others end
end
local records = {} -- a month may come twice: the second finds the first one's record
for from, to in portions(1, #given.month) do
  for i, text in ipairs(redis.call('HMGET', months, unpack(given.month, from, to))) do
    records[given.month[from + i - 1]] = text
  end
end
local found = 0
for from, to in portions(1, #series) do found = found + redis.call('EXISTS', unpack(series, from, to)) end
local seconds = redis.call('TIME')[1]
local next_word = 2
local told, noted = {}, {}

local function create_series()
  for i, name in ipairs(series) do
    if redis.call('EXISTS', name) == 0 then
      local labels = {'LABELS', 'kit', given.namespace, 'metric', given.metrics[i], 'cnpj', given.cnpj}
      if given.subclass[i] ~= '' then
        labels[#labels + 1] = 'subclass'
        labels[#labels + 1] = given.subclass[i]
      end
      for at, option in ipairs(given.options) do table.insert(labels, at, option) end
      redis.call('TS.CREATE', name, unpack(labels))
    end
  end
  found = #series
end

-- Returns a month's stored values as text, by series and time; whether there are any; and a refusal to report.
local function stored(from, to)
  local values, is_any = {}, false
  for _, name in ipairs(series) do
    values[name] = {}
    if found == #series or redis.call('EXISTS', name) == 1 then
      local samples = redis.pcall('TS.RANGE', name, from, to)
      if samples.err then return nil, nil, {'refused', name, from, samples.err} end
      for _, sample in ipairs(samples) do
        values[name][sample[1]] = sample[2].ok
        is_any = true
      end
    end
  end
  return values, is_any
end

-- Returns the words of samples that are new or differ from `old`, and the old values of those that have one. Removes
-- every fetched sample from `old`.
local function differing(first, last, old)
  local words, replaced = {}, {}
  for at = first, last, 3 do
    local name, time, value = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
    local was = old[name][time]
    old[name][time] = nil
    if not was or tonumber(was) ~= tonumber(value) then
      for word = at, at + 2 do words[#words + 1] = ARGV[word] end
      replaced[#words / 3] = was
    end
  end
  return words, replaced
end

-- Write samples and add the changed ones to `log`; returns the refusal of the first sample that was refused.
local function write(words, first, last, replaced, log)
  local refusal
  for from, to in portions(first, last) do
    for i, reply in ipairs(redis.call('TS.MADD', unpack(words, from, to))) do
      local at = from + 3 * (i - 1)
      local name, time, value = words[at], words[at + 1], words[at + 2]
      local was = replaced[(at - first) / 3 + 1]
      if reply ~= tonumber(time) then
        refusal = refusal or {'refused', name, time, type(reply) == 'table' and reply.err or 'it was dropped'}
      elseif was then
        log[#log + 1] = {tonumber(time), name, was, value}
      end
    end
  end
  return refusal
end

local function withdraw(old, log)
  local count = 0
  for name, samples in pairs(old) do
    for time, value in pairs(samples) do
      redis.call('TS.DEL', name, time, time)
      log[#log + 1] = {time, name, value}
      count = count + 1
    end
  end
  return count
end

-- A changed month is recorded at once, so that a repeat reports it again if the rest is refused; other months later.
local function note(i, changed, withdrawn)
  local text = record_text(seconds, given.fetched_at[i], given.source, given.digest[i], changed, withdrawn)
  records[given.month[i]] = text
  if changed + withdrawn > 0 then
    redis.call('HSET', months, given.month[i], text)
    told[#told + 1] = {i, changed, withdrawn}
    return
  end
  noted[#noted + 1] = given.month[i]
  noted[#noted + 1] = text
end

local function replace(i, first, last)
  local known = read_record(records[given.month[i]])
  if known.fetched_at and tonumber(known.fetched_at) > tonumber(given.fetched_at[i]) then
    told[#told + 1] = {i, 0, 0, '', true}
    return
  end
  if known.fetched_at == given.fetched_at[i] and known.digest == given.digest[i] then
    told[#told + 1] = {i, tonumber(known.changed), tonumber(known.withdrawn)}
    return
  end
  if found == 0 and last < first then return note(i, 0, 0) end
  if found < #series and last > first then create_series() end
  local old, is_any, refusal = stored(given.first[i], given.last[i])
  if is_any and not refusal then
    -- Check the log before writing: once samples are written, the same fetch would find no changes to log.
    local log = redis.pcall('XLEN', changes)
    if type(log) == 'table' and log.err then refusal = {'refused', changes, given.first[i], log.err} end
  end
  if refusal then
    told[#told + 1] = {i, unpack(refusal)}
    return
  end
  local log, withdrawn, words, replaced = {}, 0, ARGV, {}
  if is_any then
    words, replaced = differing(first, last, old)
    first, last = 1, #words
  end
  refusal = write(words, first, last, replaced, log)
  if not refusal then withdrawn = withdraw(old, log) end
  if #log > 0 then
    redis.call('XADD', changes, 'MAXLEN', '~', given.changes_kept, '*', 'month', given.month[i],
      'source', given.source, 'changes', cjson.encode(log))
  end
  if refusal then
    told[#told + 1] = {i, unpack(refusal)}
    return
  end
  if is_any and last < first and withdrawn == 0 then told[#told + 1] = {i, 0, 0, '', true} end
  note(i, #log - withdrawn, withdrawn)
end

-- A failover may have lost a fund's series and card, even if a worker knows the fund.
if not given.is_known or found == 0 then
  -- A message typed by hand brings no fund card, so one is created from the message.
  redis.call('HSETNX', card, 'cnpj', given.cnpj)
  if given.pk ~= '' then redis.call('HSETNX', card, 'pk', given.pk) end
  -- Series created with other options would lose samples silently.
  if found > 0 then
    for _, name in ipairs(series) do redis.pcall('TS.ALTER', name, unpack(given.options)) end
  end
end
for i, samples in ipairs(given.samples) do
  local last = next_word + 3 * samples - 1
  replace(i, next_word, last)
  next_word = last + 1
end
for from, to in portions(1, #noted) do redis.call('HSET', months, unpack(noted, from, to)) end
return told
