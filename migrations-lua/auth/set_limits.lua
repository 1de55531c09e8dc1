-- Replaces the rate limits of an API key.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- ARGV[1] TTL of all three in seconds      ARGV[2] channel for changes      ARGV[3] the key's id
-- ARGV[4] this call's id, which becomes part of the version
-- ARGV[5] limits by policy, as JSON
-- Returns {'changed' | 'missing'}
local text = redis.call('HGET', KEYS[1], ARGV[3])
if not text then return { 'missing' } end
local record = cjson.decode(text)
record.limits = cjson.decode(ARGV[5])
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[3], cjson.encode(record))
redis.call('SET', KEYS[2], time[1] .. '.' .. time[2] .. ' ' .. ARGV[4])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 'changed' }
