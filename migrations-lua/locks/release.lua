-- Gives a lock back, if it is still the token's, and wakes who waits for it. The fence stays: it must not fall.
-- KEYS[1] lock:{resource}   KEYS[2] i2m:lock:{resource}   ARGV[1] token   ARGV[2] the channel of waiters
-- Returns {'released'} | {'lost'}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'lost' } end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'token')
redis.call('PUBLISH', ARGV[2], 'released')
return { 'released' }
