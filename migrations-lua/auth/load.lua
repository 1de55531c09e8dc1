-- Reads the API keys if they changed, and refreshes their TTL so that they do not expire while a service runs.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- ARGV[1] TTL of all three in seconds      ARGV[2] version that the caller has
-- ARGV[3] remaining seconds below which the TTL is refreshed
-- Returns {'same' | 'changed', version, {id, record as JSON, ...}}; the version is '' if there are no keys
for _, key in ipairs(KEYS) do
  local left = redis.call('TTL', key)
  -- -1: something removed the TTL, such as a restored backup.
  if left == -1 or (left >= 0 and left < tonumber(ARGV[3])) then redis.call('EXPIRE', key, ARGV[1]) end
end
local version = redis.call('GET', KEYS[2]) or ''
if version == ARGV[2] then return { 'same', version, {} } end
return { 'changed', version, redis.call('HGETALL', KEYS[1]) }
