-- Removes an API key.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] when each was last used
-- ARGV[1] seconds to keep all of it      ARGV[2] channel that tells of changes      ARGV[3] the key's id
-- Returns {'revoked' | 'missing'}
if redis.call('HDEL', KEYS[1], ARGV[3]) == 0 then return { 'missing' } end
redis.call('HDEL', KEYS[3], ARGV[3])
local time = redis.call('TIME')
redis.call('SET', KEYS[2], time[1] .. '.' .. time[2])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { 'revoked' }
