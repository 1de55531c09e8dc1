-- Adds a batch of increments and sets a batch of values, once however often it is tried.
-- KEYS[1] i2m:metrics:batch:{writer}   KEYS[2] i2m:metrics:names   KEYS[3..] the metrics' keys
-- ARGV[1] number of the batch   ARGV[2] TTL in seconds   ARGV[3] names that are listed
-- ARGV[4..] two a key: 'count' or 'value', and the number
-- Returns {'applied', number of keys that are of another type} | {'known'}: this batch was applied before
local n, ttl = tonumber(ARGV[1]), ARGV[2]
if (tonumber(redis.call('GET', KEYS[1])) or 0) >= n then return { 'known' } end
redis.call('SET', KEYS[1], n, 'EX', ttl)

local now, refused = redis.call('TIME')[1], 0
for i = 3, #KEYS do
  local at = 4 + (i - 3) * 2
  local answer
  -- One key of another type does not keep the others from being written.
  if ARGV[at] == 'count' then
    answer = redis.pcall('INCRBY', KEYS[i], ARGV[at + 1])
  else
    answer = redis.pcall('SET', KEYS[i], ARGV[at + 1])
  end
  if type(answer) == 'table' and answer.err then
    refused = refused + 1
  else
    redis.call('EXPIRE', KEYS[i], ttl)
    redis.call('ZADD', KEYS[2], now, KEYS[i])
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[3]) - 1)
redis.call('EXPIRE', KEYS[2], ttl)
return { 'applied', refused }
