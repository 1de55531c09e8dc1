-- Takes webhooks that are due. For the time of the lease nobody else takes them; who dies meanwhile has not sent them.
-- KEYS[1] i2m:webhooks   KEYS[2] i2m:webhook: + job id:attempt
-- ARGV[1] how many at most   ARGV[2] lease in milliseconds
-- Returns {'claimed', Unix seconds, number that wait or are leased, {job id:attempt, url, payload, tries, …}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {}
for _, of in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local v = redis.call('HMGET', KEYS[2] .. of, 'url', 'payload', 'tries')
  if v[1] then
    redis.call('ZADD', KEYS[1], now + ARGV[2], of)
    for _, it in ipairs({ of, v[1], v[2], v[3] }) do claimed[#claimed + 1] = it end
  else
    -- It expired with its job.
    redis.call('ZREM', KEYS[1], of)
  end
end
return { 'claimed', tonumber(time[1]), redis.call('ZCARD', KEYS[1]), claimed }
