-- Reads the API keys if they changed, and sees to it that they do not expire while a service runs.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] when each was last used
-- ARGV[1] seconds to keep all of it      ARGV[2] the version that is known
-- ARGV[3] seconds left at which the time is renewed
-- Returns {'same' | 'changed', version, {id, record as JSON, …}}; the version of nothing is ''
for _, key in ipairs(KEYS) do
  local left = redis.call('TTL', key)
  -- -1: something took the expiry away, such as a restored backup.
  if left == -1 or (left >= 0 and left < tonumber(ARGV[3])) then redis.call('EXPIRE', key, ARGV[1]) end
end
local version = redis.call('GET', KEYS[2]) or ''
if version == ARGV[2] then return { 'same', version, {} } end
return { 'changed', version, redis.call('HGETALL', KEYS[1]) }
