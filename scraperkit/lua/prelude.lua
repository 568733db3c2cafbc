-- The beginning of every script: its arguments by name, its keys in order, and the clock.
local given = cjson.decode(ARGV[1])
local taken = 0

local function key()
  taken = taken + 1
  return KEYS[taken]
end

local function keys(count)
  local found = {}
  for i = 1, count do found[i] = key() end
  return found
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
