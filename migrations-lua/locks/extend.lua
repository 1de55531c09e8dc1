-- Sets the remaining time of a lock, if it is still the token's.
-- KEYS[1] lock:{resource}   KEYS[2] i2m:lock:{resource}   ARGV[1] token   ARGV[2] TTL in ms, more than 0
-- ARGV[3] how long the fence outlives the lock, in ms
-- Returns {'extended', fencing token or 0 of a lock that another program took, Unix ms of its end} | {'lost'}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'lost' } end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local record = redis.call('HMGET', KEYS[2], 'token', 'fence')
local fence = record[1] == ARGV[1] and tonumber(record[2]) or 0
if fence > 0 then redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[2]) + tonumber(ARGV[3])) end
local time = redis.call('TIME')
return { 'extended', fence, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2]) }
