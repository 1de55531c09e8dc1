-- Releases a lock that the token still holds, and wakes its waiters. The fence stays, because it must not decrease.
-- KEYS[1] lock:{resource}   KEYS[2] i2m:lock:{resource}   ARGV[1] token   ARGV[2] the channel of the waiters
-- ARGV[3] this call's id, which identifies a repeated call   ARGV[4] time in ms that the id is stored
-- Returns {'released'} | {'lost'}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return { redis.call('HGET', KEYS[2], 'released') == ARGV[3] and 'released' or 'lost' }
end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'token')
redis.call('HSET', KEYS[2], 'released', ARGV[3])
if redis.call('PTTL', KEYS[2]) < 0 then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
redis.call('PUBLISH', ARGV[2], 'released')
return { 'released' }
