-- Common part of all scripts about cached values.
--
-- A value is the seed's: JSON text at `cache:...` with a TTL. Its metadata is stored beside it with the same TTL, so
-- that other programs read and write values as before:
--
-- record_key(key)   hash: made, fresh, ends (Unix ms: time of storing, end of freshness, expiry), cost (ms that the
--                   computation took), slide (ms of freshness that a hit grants, or 0), tags (joined by newlines);
--                   or only `negative` if the value is known not to exist
-- lease_key(key)    string: the token of the process that computes the value; expires by itself
-- TAG_PREFIX + tag        set of keys, the seed's
-- TAG_INDEX_PREFIX + tag  sorted set of the same keys by expiry in Unix ms
--
-- ARGV[1..4] the prefixes of records and leases, TAG_PREFIX, TAG_INDEX_PREFIX    ARGV[5..] arguments of the script
-- The end of a lease, with or without a value, is published on the channel key .. ':ready'.

local TAG_PREFIX, TAG_INDEX_PREFIX = ARGV[3], ARGV[4]
-- In a cluster all these prefixes and all keys start with the prefix of the partition.
local partition_prefix = string.sub(TAG_PREFIX, 1, #TAG_PREFIX - #'tag:')

local function record_key(key) return ARGV[1] .. string.sub(key, #partition_prefix + 1) end
local function lease_key(key) return ARGV[2] .. string.sub(key, #partition_prefix + 1) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function load_record(key)
  local fields =
    redis.call('HMGET', record_key(key), 'made', 'fresh', 'ends', 'cost', 'slide', 'tags', 'negative')
  local tags = {}
  for tag in string.gmatch(fields[6] or '', '[^\n]+') do tags[#tags + 1] = tag end
  return {
    made = tonumber(fields[1]), fresh = tonumber(fields[2]), ends = tonumber(fields[3]),
    cost = tonumber(fields[4]) or 0, slide = tonumber(fields[5]) or 0, tags = tags, negative = fields[7],
  }
end

-- Whether the record describes the stored value. A program that stores its own value does not change the record, but
-- gives the key another expiry: the one in the record is random to the millisecond.
local function describes_value(key, record)
  return record.ends and math.abs(now + redis.call('PTTL', key) - record.ends) <= 20
end

-- A set of keys lives as long as its longest-lived member.
local function extend_ttl(set, ends)
  local left = redis.call('PTTL', set)
  if left < ends - now then redis.call('PEXPIRE', set, ends - now) end
end

local function add_to_tags(key, tags, ends)
  for _, tag in ipairs(tags) do
    redis.call('SADD', TAG_PREFIX .. tag, key)
    extend_ttl(TAG_PREFIX .. tag, ends)
    redis.call('ZADD', TAG_INDEX_PREFIX .. tag, ends, key)
    extend_ttl(TAG_INDEX_PREFIX .. tag, ends)
    -- Removes a few expired members each time.
    local expired = redis.call('ZRANGEBYSCORE', TAG_INDEX_PREFIX .. tag, '-inf', now, 'LIMIT', 0, 20)
    for _, member in ipairs(expired) do
      redis.call('ZREM', TAG_INDEX_PREFIX .. tag, member)
      if redis.call('EXISTS', member) == 0 then redis.call('SREM', TAG_PREFIX .. tag, member) end
    end
  end
end

local function remove_from_tags(key, tags)
  for _, tag in ipairs(tags) do
    redis.call('SREM', TAG_PREFIX .. tag, key)
    redis.call('ZREM', TAG_INDEX_PREFIX .. tag, key)
  end
end

local function release_lease(key)
  if redis.call('DEL', lease_key(key)) == 0 then return end
  redis.call('PUBLISH', string.sub(key, #partition_prefix + 1) .. ':ready', 'ready')
end

-- Deletes a value, its record and its tags, except `except_tag`, which the caller handles. A computation in progress
-- loses its lease, so its result is not stored. Returns 1 if there was a value, else 0.
local function delete_value(key, record, except_tag)
  for _, tag in ipairs(record.tags) do
    if tag ~= except_tag then remove_from_tags(key, { tag }) end
  end
  redis.call('UNLINK', record_key(key))
  release_lease(key)
  return redis.call('UNLINK', key)
end
