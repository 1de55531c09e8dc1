-- Reads the metrics that were written last, and forgets the names of those that are gone.
-- KEYS[1] i2m:metrics:names   ARGV[1] how many at most
-- Returns {'metrics', {key, number, …}}
local keys = redis.call('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
if #keys == 0 then return { 'metrics', {} } end
local found, gone = {}, {}
for i, value in ipairs(redis.call('MGET', unpack(keys))) do
  if value then
    found[#found + 1] = keys[i]
    found[#found + 1] = value
  else
    gone[#gone + 1] = keys[i]
  end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return { 'metrics', found }
