-- Stores a value, or that there is none, with its tags and no others.
-- KEYS[1] the value   ARGV[5] token of the claim that it was computed under, or '' to store it in any case
-- ARGV[6] 'value' | 'negative'   ARGV[7] JSON   ARGV[8] ms that it is fresh   ARGV[9] ms until it is gone
-- ARGV[10] ms that computing it took   ARGV[11] ms that it is fresh for again after a hit, or 0   ARGV[12..] tags
-- Returns {'stored', Unix ms until which it is fresh, Unix ms when it is gone}
--   | {'superseded'}: since the claim was made the value was stored, removed or invalidated, or the claim has ended
local key = KEYS[1]
if ARGV[5] ~= '' and redis.call('GET', claim_of(key)) ~= ARGV[5] then return { 'superseded' } end

untag(key, load_record(key).tags)
redis.call('UNLINK', record_of(key))
local fresh, ends = now + tonumber(ARGV[8]), now + tonumber(ARGV[9])
if ARGV[6] == 'negative' then
  redis.call('UNLINK', key)
  redis.call('HSET', record_of(key), 'negative', 1)
else
  local tags = {}
  for i = 12, #ARGV do tags[#tags + 1] = ARGV[i] end
  redis.call('SET', key, ARGV[7])
  redis.call('PEXPIREAT', key, ends)
  redis.call('HSET', record_of(key), 'made', now, 'fresh', fresh, 'ends', ends, 'cost', ARGV[10], 'slide', ARGV[11],
    'tags', table.concat(tags, '\n'))
  tag_until(key, tags, ends)
end
redis.call('PEXPIREAT', record_of(key), ends)
end_claim(key)
return { 'stored', fresh, ends }
