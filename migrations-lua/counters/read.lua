-- Reads the counter and the gauge of a name. A metric that another program wrote becomes listed and gets a TTL.
-- KEYS[1] metric:{name}:count   KEYS[2] metric:{name}:value   KEYS[3] i2m:metrics:names   ARGV[1] TTL in seconds
-- Returns {'metric', counter or false, gauge or false}
local reply, now = { 'metric' }, redis.call('TIME')[1]
for i = 1, 2 do
  local value = redis.call('MGET', KEYS[i])[1]
  reply[i + 1] = value
  if value then
    redis.call('ZADD', KEYS[3], 'NX', now, KEYS[i])
    redis.call('EXPIRE', KEYS[3], ARGV[1], 'GT')
    if redis.call('TTL', KEYS[i]) < 0 then redis.call('EXPIRE', KEYS[i], ARGV[1]) end
  end
end
return reply
