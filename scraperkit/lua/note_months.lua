-- Note on the keys of one fund that months of it have just been stored. Safe to repeat.
-- A message typed by hand brings no fund card, so one is begun with what the message tells.
local card, months = key(), key()
if not given.has_card then
  redis.call('HSETNX', card, 'cnpj', given.cnpj)
  redis.call('HSETNX', card, 'pk', given.pk)
end
local now, words = redis.call('TIME')[1], {}
for _, month in ipairs(given.months) do
  words[#words + 1] = month
  words[#words + 1] = now
end
redis.call('HSET', months, unpack(words))
return #given.months
