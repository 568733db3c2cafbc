-- Count each consumer's pending entries: those that are in the stream, and those that are gone from it.
-- Returns {name, in the stream, gone} for each.
local jobs = key()
local counts, order, start = {}, {}, '-'
repeat
  local pending = redis.pcall('XPENDING', jobs, given.group, start, '+', 1000)
  if pending.err then break end -- the stream or the group does not exist
  for _, row in ipairs(pending) do
    local name = row[2]
    if not counts[name] then
      counts[name] = {name, 0, 0}
      order[#order + 1] = counts[name]
    end
    local place = #redis.call('XRANGE', jobs, row[1], row[1]) > 0 and 2 or 3
    counts[name][place] = counts[name][place] + 1
    start = '(' .. row[1]
  end
until #pending < 1000
return order
