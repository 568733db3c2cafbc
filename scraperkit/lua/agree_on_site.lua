--- The state of a site that all its readers share: whether its circuit is open, and until when. `action` is one of
--   ask         returns ms to wait; 0: proceed; -1: proceed, as the one trial (of at most `trial_ms`, by `who`)
--   pause       opens the circuit for `pause_ms`, for a `reason`; returns 0
--   failed      returns the ms of a pause that begins now, else 0: after `failures` in a row, the pause is `pause_ms`,
--               doubled each further time up to `longest_ms`, for a `reason`
--   succeeded   returns 0
local site, sites = key(), key()
local now = now_ms()

local function number(field)
  return tonumber(redis.call('HGET', site, field) or 0)
end

-- Never shorten an expiry that was set before.
local function keep(name, ms)
  redis.call('PEXPIRE', name, string.format('%.0f', math.max(ms, redis.call('PTTL', name))))
end

local function open_circuit(ms)
  local till = math.max(number('until'), now + ms)
  redis.call('HSET', site, 'until', string.format('%.0f', till), 'reason', given.reason)
  redis.call('ZADD', sites, string.format('%.0f', till), given.site)
  keep(site, math.max(3600000, 2 * ms))
  keep(sites, math.max(86400000, 2 * ms))
end

if given.action == 'ask' then
  local wait = number('until') - now
  if wait > 0 then return wait end
  if number('trips') > 0 then
    -- The circuit was open, and nothing has succeeded since: one fetch at a time tries the site.
    local trial = number('trial') - now
    if trial > 0 and redis.call('HGET', site, 'trier') ~= given.who then return math.min(trial, 250) end
    redis.call('HSET', site, 'trial', string.format('%.0f', now + given.trial_ms), 'trier', given.who)
    return -1
  end
elseif given.action == 'pause' then
  open_circuit(given.pause_ms)
elseif given.action == 'failed' then
  local failures = redis.call('HINCRBY', site, 'failures', 1)
  redis.call('HDEL', site, 'trial')
  keep(site, 3600000)
  if failures >= given.failures and number('until') <= now then
    local trips = redis.call('HINCRBY', site, 'trips', 1)
    local ms = math.min(given.longest_ms, given.pause_ms * 2 ^ (trips - 1))
    open_circuit(ms)
    return ms
  end
elseif given.action == 'succeeded' then
  redis.call('DEL', site)
  redis.call('ZREM', sites, given.site)
end
return 0
