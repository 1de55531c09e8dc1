-- Keeps a new API key, if its name has a place for it.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] when each was last used
-- ARGV[1] seconds to keep all of it      ARGV[2] channel that tells of changes      ARGV[3] the key's id
-- ARGV[4] this call's id, which is a part of the version
-- ARGV[5] record as JSON      ARGV[6] keys of this name that are configured
-- ARGV[7] most keys of one name      ARGV[8] most keys
-- Returns {'created' | 'exists' | 'name_taken' | 'full'}
-- Asked again by who has not heard the answer.
if string.match(redis.call('GET', KEYS[2]) or '', ' (.*)$') == ARGV[4] then return { 'created' } end
if redis.call('HEXISTS', KEYS[1], ARGV[3]) == 1 then return { 'exists' } end
local record = cjson.decode(ARGV[5])
local n_named, n_keys = tonumber(ARGV[6]), 0
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  n_keys = n_keys + 1
  if cjson.decode(text).name == record.name then n_named = n_named + 1 end
end
if n_named >= tonumber(ARGV[7]) then return { 'name_taken' } end
if n_keys >= tonumber(ARGV[8]) then return { 'full' } end

local time = redis.call('TIME')
record.created_at = tonumber(time[1])
redis.call('HSET', KEYS[1], ARGV[3], cjson.encode(record))
redis.call('SET', KEYS[2], time[1] .. '.' .. time[2] .. ' ' .. ARGV[4])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 'created' }
