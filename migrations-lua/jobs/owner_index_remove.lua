-- In a cluster: takes jobs that are gone out of their owner's list.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time'
-- ARGV job ids
-- Returns how many were in it
redis.call('SREM', KEYS[1], unpack(ARGV))
return redis.call('ZREM', KEYS[2], unpack(ARGV))
