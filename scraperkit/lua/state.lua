-- The grammar of three values, which state.py reads, too:
--   a message, in the hash of its batch   <state> <cnpj> <MM/YYYY>[ <why>], the label being cnpj and month
--   the claim on a Pub/Sub message        held <instance> <lease in ms> <silence in ms>, or: finished <batch's key>
--   a month, in the hash of its fund's      <stored at, s> <fetched at, s> <source> <digest> <changed> <withdrawn>
local function label_of(cnpj, month)
  return cnpj .. ' ' .. month
end

local function read_state(text)
  if text then return string.match(text .. ' ', '^([%a_]+) (%S+ %S+) ') end
end

-- Returns a reply, or nil if the key or count is not the kit's: its messages then go uncounted, and no worker crashes.
local function unless_strange(reply)
  local why = type(reply) == 'table' and reply.err
  if not why then return reply end
  if not (string.find(why, 'WRONGTYPE', 1, true) or string.find(why, 'not an integer', 1, true)) then error(reply) end
end

local function field_of(batch, id)
  return unless_strange(redis.pcall('HGET', batch, id))
end

local function claim_of(name)
  return unless_strange(redis.pcall('GET', name))
end

local function state_text(state, label, why)
  if why and why ~= '' then return state .. ' ' .. label .. ' ' .. why end
  return state .. ' ' .. label
end

-- Whether a message has ended without being done, and may be published again.
local function is_over(state)
  return state == 'failed' or state == 'lost' or state == 'cancelled' or state == 'not_offered'
end

local function held_text(instance, lease, silence)
  return string.format('held %s %d %d', instance, lease, silence)
end

-- Whether a name still belongs to this life of a worker: another may have taken the name of a frozen one.
local function has_name(card, instance)
  local text = redis.call('GET', card)
  local good, found = pcall(cjson.decode, text or '{}')
  if not good or type(found) ~= 'table' then return true end
  return found.instance == nil or found.instance == instance
end

local function finished_text(batch)
  return 'finished ' .. batch
end

local function holder_of(claim)
  if claim then return string.match(claim, '^held (%S+)') end
end

-- A message that is finished for one batch is still to be done for another.
local function is_finished_for(claim, batch)
  return claim == finished_text(batch)
end

local function is_free(claim, batch)
  return not claim or claim == '' or (string.find(claim, '^finished ') ~= nil and not is_finished_for(claim, batch))
end

-- An absurdly late time would block every fetch of its month.
local function is_time(word)
  return word ~= nil and (string.find(word, '^%d+$') or string.find(word, '^%d+%.%d+$')) and tonumber(word) < 2 ^ 33
end

-- Version 1 wrote only the first word.
local nothing_known = {}
local function read_record(text)
  if not text then return nothing_known end
  local record, stored_at = {}, nil
  stored_at, record.fetched_at, record.source, record.digest, record.changed, record.withdrawn =
    string.match(text, '^([%d.]+) ([%d.]+) (%S+) (%S+) (%d+) (%d+)$')
  return is_time(stored_at) and is_time(record.fetched_at) and record or nothing_known
end

local function record_text(stored_at, fetched_at, source, digest, changed, withdrawn)
  return stored_at .. ' ' .. fetched_at .. ' ' .. source .. ' ' .. digest .. ' ' .. changed .. ' ' .. withdrawn
end
