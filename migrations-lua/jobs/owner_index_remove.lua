-- In a cluster: removes deleted jobs from their owner index.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time'
-- ARGV job ids
-- Returns the number of removed jobs
redis.call('SREM', KEYS[1], unpack(ARGV))
return redis.call('ZREM', KEYS[2], unpack(ARGV))
