-- In a cluster, where an owner's list has a slot of its own: gives jobs their place in it, or keeps it for as long
-- again.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', sorted by creation
-- ARGV[1] TTL in seconds   ARGV[2..] two a job: its id, Unix ms of its creation or '' for now
-- Returns how many are new
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local n = 0
for i = 2, #ARGV, 2 do
  redis.call('SADD', KEYS[1], ARGV[i])
  n = n + redis.call('ZADD', KEYS[2], 'NX', ARGV[i + 1] ~= '' and ARGV[i + 1] or now, ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return n
