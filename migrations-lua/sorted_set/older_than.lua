-- Members of a sorted set whose score, in Unix ms, is older than an age, oldest first.
-- KEYS[1] sorted set   ARGV[1] age in ms   ARGV[2] limit
-- Returns {'members', {member, ...}}
local time = redis.call('TIME')
local max_score = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[1])
local members = redis.call('ZRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', max_score), 'LIMIT', 0, ARGV[2])
return { 'members', members }
