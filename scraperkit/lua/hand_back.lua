-- Hand back jobs that this worker will not do, to the stream or to the channel.
-- Redis rolls nothing back if a call is refused, so each is sent again before it is deleted here.
-- Returns how many were handed back.
local jobs, channel = key(), key()
local is_ours = has_name(key(), given.instance)
local claims = keys(#given.messages)
local back = 0
for _, id in ipairs(is_ours and given.entry or {}) do
  local pending = redis.pcall('XPENDING', jobs, given.group, id, id, 1)
  if pending.err == nil and pending[1] and pending[1][2] == given.consumer then
    local entry = redis.call('XRANGE', jobs, id, id)[1]
    if entry then
      redis.call('XADD', jobs, '*', unpack(entry[2]))
      back = back + 1
    end
    redis.call('XDEL', jobs, id)
    redis.call('XACK', jobs, given.group, id)
  end
end
for i, claim in ipairs(claims) do
  if holder_of(claim_of(claim)) == given.instance then
    for _, message in ipairs(given.messages[i]) do
      redis.call('PUBLISH', channel, message)
      back = back + 1
    end
    redis.call('DEL', claim)
  end
end
return back
