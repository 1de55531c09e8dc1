-- Takes a lock, or keeps it if it is ours already.
-- KEYS[1] the lock   ARGV[1] our token   ARGV[2] TTL in milliseconds
-- Returns 1 if we hold it now, else 0
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
