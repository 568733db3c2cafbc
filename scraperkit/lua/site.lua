-- What all who ask one site agree on: whether it is left alone, and until when.
--
-- KEYS: 1 the site's hash, 2 sites that are left alone, by the time until which they are
-- ARGV: 1 site, then one of
--   ask <ms that a trial may take> <who>          returns ms to wait; 0: go on; -1: go on, and try it
--   pause <ms> <reason>                           returns 0
--   failed <how many make a pause> <ms of the first pause> <ms of the longest> <reason>
--                                                 returns the ms of a pause that begins now, else 0
--   succeeded                                     returns 0
local site, sites = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local word = ARGV[2]

local function number(field)
  return tonumber(redis.call('HGET', site, field) or 0)
end

local function leave_alone(ms, reason)
  local till = math.max(number('until'), now + ms)
  redis.call('HSET', site, 'until', string.format('%.0f', till), 'reason', reason)
  redis.call('ZADD', sites, string.format('%.0f', till), ARGV[1])
  redis.call('PEXPIRE', site, math.max(3600000, 2 * ms))
  redis.call('PEXPIRE', sites, 86400000)
end

if word == 'ask' then
  local wait = number('until') - now
  if wait > 0 then return wait end
  if number('trips') > 0 then
    -- It was left alone, and nothing has succeeded since: one fetch at a time tries it.
    local trial = number('trial') - now
    if trial > 0 and redis.call('HGET', site, 'trier') ~= ARGV[4] then return math.min(trial, 250) end
    redis.call('HSET', site, 'trial', string.format('%.0f', now + ARGV[3]), 'trier', ARGV[4])
    return -1
  end
elseif word == 'pause' then
  leave_alone(tonumber(ARGV[3]), ARGV[4])
elseif word == 'failed' then
  local failures = redis.call('HINCRBY', site, 'failures', 1)
  redis.call('HDEL', site, 'trial')
  redis.call('PEXPIRE', site, 3600000)
  if failures >= tonumber(ARGV[3]) and number('until') <= now then
    local trips = redis.call('HINCRBY', site, 'trips', 1)
    local ms = math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ (trips - 1))
    leave_alone(ms, ARGV[6])
    return ms
  end
elseif word == 'succeeded' then
  redis.call('DEL', site)
  redis.call('ZREM', sites, ARGV[1])
end
return 0
