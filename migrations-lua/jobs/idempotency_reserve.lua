-- In a cluster, where a job and its Idempotency-Key have slots of their own: says which job the key stands for.
-- KEYS[1] i2m:idempotency:{owner}:{hash of the key}
-- ARGV[1] fingerprint of the request   ARGV[2] job id   ARGV[3] TTL in seconds
-- ARGV[4] what stood there, and stands for no job any more, or ''
-- Returns {'reserved'} | {'taken', what stands there, milliseconds since it was reserved}
-- The key holds 'fingerprint job_id Unix-ms'.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local present = redis.call('GET', KEYS[1]) or ''
local since = tonumber(string.match(present, '^%S+ %S+ (%d+)$'))
if since and present ~= ARGV[4] then return { 'taken', present, math.max(0, now - since) } end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. string.format('%.0f', now), 'EX', ARGV[3])
return { 'reserved' }
