-- Acquires a lock by the seed's protocol: SET NX with an expiry.
-- KEYS[1] lock:{resource}, the holder's token   KEYS[2] i2m:lock:{resource}, hash of `token` and `fence`
-- ARGV[1] the caller's token   ARGV[2] TTL in ms   ARGV[3] time in ms that the fence outlives the lock
-- Returns {'granted', fencing token, expiry in Unix ms}
--   | {'held', remaining ms or -1, 1 if the holder publishes its release, else 0}
-- The call can be repeated with the same token, for example after a lost reply.
local holder = redis.call('GET', KEYS[1])
local record = redis.call('HMGET', KEYS[2], 'token', 'fence')
if holder and holder ~= ARGV[1] then
  return { 'held', redis.call('PTTL', KEYS[1]), record[1] == holder and 1 or 0 }
end
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = tonumber(record[2]) or 0
if not holder or record[1] ~= ARGV[1] then
  -- The clock in microseconds, so that the fence grows even after the record expired; at least the last fence plus
  -- one, so that it grows even after the clock was set back.
  fence = math.max(fence + 1, now_us)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'token', ARGV[1], 'fence', string.format('%.0f', fence))
redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[2]) + tonumber(ARGV[3]))
return { 'granted', fence, math.floor(now_us / 1000) + tonumber(ARGV[2]) }
