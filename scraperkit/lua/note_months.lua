-- Note on the keys of one fund that months of it have just been stored. Safe to repeat.
-- A message typed by hand brings no fund card, so one is begun with what the message tells.
local card, months = key(), key()
redis.call('HSETNX', card, 'cnpj', given.cnpj)
redis.call('HSETNX', card, 'pk', given.pk)
local now = redis.call('TIME')[1]
for _, month in ipairs(given.months) do redis.call('HSET', months, month, now) end
return #given.months
