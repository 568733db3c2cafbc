-- Replace months of one fund by what was fetched, unless a newer fetch has replaced them: the time of a fetch, by the
-- clock of Redis, is its fencing token. Safe to repeat: the same fetch gets the same answer again.
--
-- The months come as one column for each field of `MonthFetched` in scripts.py but the words of TS.MADD, which follow
-- each other in ARGV[2] and after; `samples` tells how many there are of each month. What is stored already is not
-- written again, so an equal month costs no write. What differed is logged; a day that is new is not.
--
-- The series are those of the class and of the subclasses that were fetched, all metrics of each. A fetch that is whole
-- has all subclasses: if others are stored, nothing is done, and the answer is {'others', their keys ...}.
--
-- Returns of each month of which there is something to tell {its number, samples changed, samples withdrawn}, or
-- {its number, 'refused', series, time, why} for the first sample that was refused, or {its number, 0, 0, '', true} if
-- nothing was written: the same, or something newer, was stored already.
local card, months, changes = key(), key(), key()
local series = keys(#KEYS - 3)

-- Lua unpacks no more than 8,000 values at once, fewer than the words of a month of twenty subclasses: portions of whole
-- samples, each given by its first and last place.
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
    -- Series that somebody else has labelled so are none of the kit's.
    local is_ours = string.sub(name, 1, #prefix) == prefix and metrics[string.match(name, '[^:]*$')]
    if is_ours and not known[name] then others[#others + 1] = name end
  end
  if #others > 1 then return others end
end
local records = {} -- a month may come twice: the second meets what the first has left
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

-- What is stored of a month: for each series its values as text, by time; whether there is any; and a refusal to tell.
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

-- The words of what is new or differs from `old`, from which all that a fetch brought is taken away; and the old value
-- of each of these samples that has one.
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

-- Write samples; returns the refusal of the first that was refused, and adds to `log` what was changed.
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

-- What was changed is noted at once, so that it is told again if the rest is refused; other months are noted together.
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
    -- What is changed could not be told of afterwards: once it is written, the same fetch finds nothing changed.
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

-- A fund without series may have been lost with its card, in a failover, whatever a worker knows of it.
if not given.is_known or found == 0 then
  -- A message typed by hand brings no fund card, so one is begun with what the message tells.
  redis.call('HSETNX', card, 'cnpj', given.cnpj)
  if given.pk ~= '' then redis.call('HSETNX', card, 'pk', given.pk) end
  -- Series that somebody made otherwise would lose samples without a word.
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
