-- Records a delivery attempt. A delivered webhook stays delivered when a slower attempt ends after it.
-- KEYS[1] i2m:webhooks   KEYS[2] i2m:webhook:{job id:attempt}   KEYS[3] i2m:webhook:{job id:attempt}:log
-- ARGV[1] job id:attempt   ARGV[2] 'delivered' | 'pending' | 'given_up'   ARGV[3] delay until the next try in ms
-- ARGV[4] the attempt as a JSON object, to which the time is added   ARGV[5] TTL in seconds
-- ARGV[6] maximum length of the log   ARGV[7] this call's id, which identifies a repeated call
-- Returns {'recorded'} | {'missing'}: its job was deleted
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return { 'missing' }
end
if redis.call('HGET', KEYS[2], 'noted') == ARGV[7] then return { 'recorded' } end
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
return { 'recorded' }
