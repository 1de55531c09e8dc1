-- Sets the last-use time of API keys to now, except of revoked ones.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- ARGV[1] TTL of KEYS[3] in seconds      ARGV[2..] ids
-- Returns the number of updated keys
local now = redis.call('TIME')[1]
local updated = 0
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[i], now)
    updated = updated + 1
  end
end
if updated > 0 then redis.call('EXPIRE', KEYS[3], ARGV[1]) end
return updated
