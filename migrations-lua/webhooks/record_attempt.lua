-- Notes how an attempt went. What was delivered stays so, whatever an attempt says that took too long.
-- KEYS[1] i2m:webhooks   KEYS[2] i2m:webhook:{job id:attempt}   KEYS[3] i2m:webhook:{job id:attempt}:log
-- ARGV[1] job id:attempt   ARGV[2] 'delivered' | 'pending' | 'given_up'   ARGV[3] until the next try, in milliseconds
-- ARGV[4] the attempt as a JSON object, to which the time is added   ARGV[5] TTL in seconds   ARGV[6] attempts kept
-- ARGV[7] this call's id, by which it is known when it is repeated
-- Returns {'noted'} | {'gone'}: its job was deleted
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return { 'gone' }
end
if redis.call('HGET', KEYS[2], 'noted') == ARGV[7] then return { 'noted' } end
local time = redis.call('TIME')
local entry = cjson.decode(ARGV[4])
entry.at_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('RPUSH', KEYS[3], cjson.encode(entry))
redis.call('LTRIM', KEYS[3], -ARGV[6], -1)
redis.call('HINCRBY', KEYS[2], 'tries', 1)
redis.call('HSET', KEYS[2], 'noted', ARGV[7])
if redis.call('HGET', KEYS[2], 'state') ~= 'delivered' then
  redis.call('HSET', KEYS[2], 'state', ARGV[2])
  if ARGV[2] == 'pending' then
    redis.call('ZADD', KEYS[1], 'XX', entry.at_ms + ARGV[3], ARGV[1])
  else
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
end
for _, key in ipairs({ KEYS[2], KEYS[3] }) do redis.call('EXPIRE', key, ARGV[5]) end
return { 'noted' }
