-- Take over stream entries, each from its given owner: a dead worker, or an earlier life of this one.
-- Returns the entries taken. Skips an entry that another worker has taken meanwhile, or if its owner is back.
local jobs = key()
local cards = keys(#given.entry)
local taken = {}
for i, entry in ipairs(given.entry) do
  local owner = given.owner[i]
  local pending = redis.pcall('XPENDING', jobs, given.group, entry, entry, 1)
  local still_owned = pending.err == nil and pending[1] and pending[1][2] == owner
  if still_owned and (owner == given.consumer or redis.call('EXISTS', cards[i]) == 0) then
    taken[#taken + 1] = redis.call('XCLAIM', jobs, given.group, given.consumer, 0, entry)[1]
  end
end
return taken
