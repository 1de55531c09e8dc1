-- In a cluster, where an owner index has its own slot: adds jobs to it and refreshes its TTL.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', by creation in Unix ms
-- ARGV[1] TTL in seconds   ARGV[2..] two arguments a job: its id, and its creation in Unix ms or '' for now
-- Returns the number of added jobs
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local added = 0
for i = 2, #ARGV, 2 do
  redis.call('SADD', KEYS[1], ARGV[i])
  local created = ARGV[i + 1] ~= '' and ARGV[i + 1] or now
  added = added + redis.call('ZADD', KEYS[2], 'NX', created, ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return added
