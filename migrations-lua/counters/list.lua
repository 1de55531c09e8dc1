-- Reads the most recently written metrics, and removes the names of expired ones.
-- KEYS[1] i2m:metrics:names   ARGV[1] limit
-- Returns {'metrics', {key, number, ...}}
local keys = redis.call('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
if #keys == 0 then return { 'metrics', {} } end
local found, expired = {}, {}
for i, value in ipairs(redis.call('MGET', unpack(keys))) do
  if value then
    found[#found + 1] = keys[i]
    found[#found + 1] = value
  else
    expired[#expired + 1] = keys[i]
  end
end
if #expired > 0 then redis.call('ZREM', KEYS[1], unpack(expired)) end
return { 'metrics', found }
