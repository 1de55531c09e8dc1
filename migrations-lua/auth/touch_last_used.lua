-- Notes that API keys were used a moment ago, those that were not revoked since.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] when each was last used
-- ARGV[1] seconds to keep all of it      ARGV[2..] ids
-- Returns how many
local now = redis.call('TIME')[1]
local n = 0
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[i], now)
    n = n + 1
  end
end
if n > 0 then redis.call('EXPIRE', KEYS[3], ARGV[1]) end
return n
