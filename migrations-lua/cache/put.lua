-- Stores a value, or that it does not exist, and replaces its tags.
-- KEYS[1] the value   ARGV[5] token of the lease under which it was computed, or '' to store it unconditionally
-- ARGV[6] 'value' | 'negative'   ARGV[7] JSON   ARGV[8] freshness in ms   ARGV[9] TTL in ms
-- ARGV[10] cost of the computation in ms   ARGV[11] freshness in ms that a hit grants, or 0   ARGV[12..] tags
-- Returns {'stored', end of freshness in Unix ms, expiry in Unix ms}
--   | {'superseded'}: the lease has ended, or the value was stored, deleted or invalidated since it was acquired
local key = KEYS[1]
if ARGV[5] ~= '' and redis.call('GET', lease_key(key)) ~= ARGV[5] then return { 'superseded' } end

remove_from_tags(key, load_record(key).tags)
redis.call('UNLINK', record_key(key))
local fresh, ends = now + tonumber(ARGV[8]), now + tonumber(ARGV[9])
if ARGV[6] == 'negative' then
  redis.call('UNLINK', key)
  redis.call('HSET', record_key(key), 'negative', 1)
else
  local tags = {}
  for i = 12, #ARGV do tags[#tags + 1] = ARGV[i] end
  redis.call('SET', key, ARGV[7])
  redis.call('PEXPIREAT', key, ends)
  redis.call('HSET', record_key(key), 'made', now, 'fresh', fresh, 'ends', ends, 'cost', ARGV[10], 'slide', ARGV[11],
    'tags', table.concat(tags, '\n'))
  add_to_tags(key, tags, ends)
end
redis.call('PEXPIREAT', record_key(key), ends)
release_lease(key)
return { 'stored', fresh, ends }
