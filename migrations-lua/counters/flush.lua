-- Adds a batch of increments and sets a batch of values, once even if the call is repeated.
-- KEYS[1] i2m:metrics:batch:{writer}   KEYS[2] i2m:metrics:names   KEYS[3..] the metrics' keys
-- ARGV[1] number of the batch   ARGV[2] TTL in seconds   ARGV[3] maximum number of listed names
-- ARGV[4..] two arguments a key: 'count' or 'value', and the number
-- Returns {'applied', number of keys of another type} | {'duplicate'}: this batch was applied before
local batch, ttl = tonumber(ARGV[1]), ARGV[2]
if (tonumber(redis.call('GET', KEYS[1])) or 0) >= batch then return { 'duplicate' } end
redis.call('SET', KEYS[1], batch, 'EX', ttl)

local now, refused = redis.call('TIME')[1], 0
for i = 3, #KEYS do
  local arg = 4 + (i - 3) * 2
  local reply
  -- A key of another type does not prevent the others from being written.
  if ARGV[arg] == 'count' then
    reply = redis.pcall('INCRBY', KEYS[i], ARGV[arg + 1])
  else
    reply = redis.pcall('SET', KEYS[i], ARGV[arg + 1])
  end
  if type(reply) == 'table' and reply.err then
    refused = refused + 1
  else
    redis.call('EXPIRE', KEYS[i], ttl)
    redis.call('ZADD', KEYS[2], now, KEYS[i])
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[3]) - 1)
redis.call('EXPIRE', KEYS[2], ttl)
return { 'applied', refused }
