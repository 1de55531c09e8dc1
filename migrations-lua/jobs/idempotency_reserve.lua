-- In a cluster, where a job and its Idempotency-Key have different slots: reserves the key for a job.
-- KEYS[1] i2m:idempotency:{owner}:{hash of the key}
-- ARGV[1] hash of the request   ARGV[2] job id   ARGV[3] TTL in seconds
-- ARGV[4] abandoned value to replace, of a job that does not exist, or ''
-- Returns {'reserved'} | {'taken', current value, age of the reservation in ms}
-- The value is 'request_hash job_id Unix-ms'.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local current = redis.call('GET', KEYS[1]) or ''
local reserved_at = tonumber(string.match(current, '^%S+ %S+ (%d+)$'))
if reserved_at and current ~= ARGV[4] then return { 'taken', current, math.max(0, now - reserved_at) } end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. string.format('%.0f', now), 'EX', ARGV[3])
return { 'reserved' }
