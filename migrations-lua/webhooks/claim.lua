-- Leases webhooks whose next try is due. No other process leases them until the lease ends, when a webhook whose
-- process crashed is due again.
-- KEYS[1] i2m:webhooks   KEYS[2] i2m:webhook: + job id:attempt
-- ARGV[1] limit   ARGV[2] lease in ms
-- Returns {'claimed', Unix seconds, number of queued or leased webhooks, {job id:attempt, url, payload, tries, ...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {}
for _, webhook_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local fields = redis.call('HMGET', KEYS[2] .. webhook_id, 'url', 'payload', 'tries')
  if fields[1] then
    redis.call('ZADD', KEYS[1], now + ARGV[2], webhook_id)
    for _, value in ipairs({ webhook_id, unpack(fields, 1, 3) }) do claimed[#claimed + 1] = value end
  else
    -- The webhook expired with its job.
    redis.call('ZREM', KEYS[1], webhook_id)
  end
end
return { 'claimed', tonumber(time[1]), redis.call('ZCARD', KEYS[1]), claimed }
