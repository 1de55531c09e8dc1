-- Removes an API key.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- ARGV[1] TTL of all three in seconds      ARGV[2] channel for changes      ARGV[3] the key's id
-- ARGV[4] this call's id, which becomes part of the version
-- Returns {'revoked' | 'missing'}
-- A repeated call returns what the first one did.
if string.match(redis.call('GET', KEYS[2]) or '', ' (.*)$') == ARGV[4] then return { 'revoked' } end
if redis.call('HDEL', KEYS[1], ARGV[3]) == 0 then return { 'missing' } end
redis.call('HDEL', KEYS[3], ARGV[3])
local time = redis.call('TIME')
redis.call('SET', KEYS[2], time[1] .. '.' .. time[2] .. ' ' .. ARGV[4])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 'revoked' }
