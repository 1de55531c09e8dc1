-- Sets the remaining time of a lock that the token still holds.
-- KEYS[1] lock:{resource}   KEYS[2] i2m:lock:{resource}   ARGV[1] token   ARGV[2] TTL in ms, more than 0
-- ARGV[3] time in ms that the fence outlives the lock
-- Returns {'extended', fencing token or 0 for a lock that another program acquired, expiry in Unix ms} | {'lost'}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'lost' } end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local record = redis.call('HMGET', KEYS[2], 'token', 'fence')
local fence = record[1] == ARGV[1] and tonumber(record[2]) or 0
if fence > 0 then redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[2]) + tonumber(ARGV[3])) end
local time = redis.call('TIME')
return { 'extended', fence, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2]) }
