-- What every script about cached values stands on; compiled in front of cache/*.lua.
--
-- A value is the seed's: JSON text at `cache:…`, with a TTL. What we know of it stands beside it, with the same TTL, so
-- that other programs read and write values as they always did:
--
-- record_of(key)  hash: made, fresh, ends (Unix ms: when it was stored, until when it is fresh, when it is gone),
--                 cost (ms that computing it took), slide (ms that it is fresh for again after a hit, or 0),
--                 tags (joined by newlines), or only `negative` where there is no value and that is known
-- claim_of(key)   string: the token of who computes the value now; ends of itself
-- TAG .. tag      set of keys, the seed's     INDEX .. tag   sorted set of the same by when they are gone
--
-- ARGV[1..4] the prefixes of records and claims, TAG, INDEX    ARGV[5..] the script's own
-- On the name of the key and ':ready' it is said that a claim has ended, be it with a value or without.

local TAG, INDEX = ARGV[3], ARGV[4]
-- In a cluster all of these and all keys begin with the same.
local head = string.sub(TAG, 1, #TAG - #'tag:')

local function record_of(key) return ARGV[1] .. string.sub(key, #head + 1) end
local function claim_of(key) return ARGV[2] .. string.sub(key, #head + 1) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function load_record(key)
  local v = redis.call('HMGET', record_of(key), 'made', 'fresh', 'ends', 'cost', 'slide', 'tags', 'negative')
  local tags = {}
  for tag in string.gmatch(v[6] or '', '[^\n]+') do tags[#tags + 1] = tag end
  return {
    made = tonumber(v[1]), fresh = tonumber(v[2]), ends = tonumber(v[3]), cost = tonumber(v[4]) or 0,
    slide = tonumber(v[5]) or 0, tags = tags, negative = v[7],
  }
end

-- Whether the value is the one that the record is about. Another program that stored its own has not touched the
-- record, but gave the key another end: ours is random to the millisecond.
local function is_about_value(key, record)
  return record.ends and math.abs(now + redis.call('PTTL', key) - record.ends) <= 20
end

-- A set of keys lives as long as its longest-lived member.
local function outlive(set, ends)
  local left = redis.call('PTTL', set)
  if left < ends - now then redis.call('PEXPIRE', set, ends - now) end
end

local function tag_until(key, tags, ends)
  for _, tag in ipairs(tags) do
    redis.call('SADD', TAG .. tag, key)
    outlive(TAG .. tag, ends)
    redis.call('ZADD', INDEX .. tag, ends, key)
    outlive(INDEX .. tag, ends)
    -- Members that are gone, a few at a time.
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', INDEX .. tag, '-inf', now, 'LIMIT', 0, 20)) do
      redis.call('ZREM', INDEX .. tag, gone)
      if redis.call('EXISTS', gone) == 0 then redis.call('SREM', TAG .. tag, gone) end
    end
  end
end

local function untag(key, tags)
  for _, tag in ipairs(tags) do
    redis.call('SREM', TAG .. tag, key)
    redis.call('ZREM', INDEX .. tag, key)
  end
end

local function end_claim(key)
  if redis.call('DEL', claim_of(key)) == 0 then return end
  redis.call('PUBLISH', string.sub(key, #head + 1) .. ':ready', 'ready')
end

-- Removes a value with all that is known of it, but its membership in `done_with`, which the caller sees to. What is
-- being computed for it is not stored any more. Returns 1 if there was a value, else 0.
local function drop(key, record, done_with)
  for _, tag in ipairs(record.tags) do
    if tag ~= done_with then untag(key, { tag }) end
  end
  redis.call('UNLINK', record_of(key))
  end_claim(key)
  return redis.call('UNLINK', key)
end
