-- Members of a sorted set by time that are older than an age, the oldest first.
-- KEYS[1] sorted set of Unix ms   ARGV[1] age in ms   ARGV[2] how many at most
-- Returns {'aged', {member, …}}
local time = redis.call('TIME')
local until_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[1])
return { 'aged', redis.call('ZRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', until_ms), 'LIMIT', 0, ARGV[2]) }
