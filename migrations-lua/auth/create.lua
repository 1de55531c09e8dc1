-- Stores a new API key, unless a limit is reached.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- ARGV[1] TTL of all three in seconds      ARGV[2] channel for changes      ARGV[3] the key's id
-- ARGV[4] this call's id, which becomes part of the version
-- ARGV[5] record as JSON      ARGV[6] number of configured keys with this name
-- ARGV[7] maximum number of keys with one name      ARGV[8] maximum number of keys
-- Returns {'created' | 'exists' | 'name_taken' | 'full'}
-- A repeated call returns what the first one did.
if string.match(redis.call('GET', KEYS[2]) or '', ' (.*)$') == ARGV[4] then return { 'created' } end
if redis.call('HEXISTS', KEYS[1], ARGV[3]) == 1 then return { 'exists' } end
local record = cjson.decode(ARGV[5])
local name_count, key_count = tonumber(ARGV[6]), 0
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  key_count = key_count + 1
  if cjson.decode(text).name == record.name then name_count = name_count + 1 end
end
if name_count >= tonumber(ARGV[7]) then return { 'name_taken' } end
if key_count >= tonumber(ARGV[8]) then return { 'full' } end

local time = redis.call('TIME')
record.created_at = tonumber(time[1])
redis.call('HSET', KEYS[1], ARGV[3], cjson.encode(record))
redis.call('SET', KEYS[2], time[1] .. '.' .. time[2] .. ' ' .. ARGV[4])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 'created' }
