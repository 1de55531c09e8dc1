-- Reads a value, and leases its computation to the caller if it is missing, stale, or about to become stale.
-- KEYS[1] the value   ARGV[5] token for a lease, or '' to acquire none
-- ARGV[6] duration of a lease in ms   ARGV[7] how early a value is computed again: a multiple of its cost
-- ARGV[8] maximum time in ms that hits may keep a value fresh
-- Returns {'hit' | 'stale', value, remaining ms of freshness, 1 if the token has the lease, else 0}
--   | {'negative', '', remaining ms, 0} | {'compute', '', 0, 1}: missing, and the token has the lease
--   | {'wait', token of the lease holder, remaining ms of its lease, 0}
--   | {'miss', '', 0, 0}: missing, and no lease was requested
local key, token = KEYS[1], ARGV[5]

local function acquire_lease()
  if token == '' then return 0 end
  if redis.call('SET', lease_key(key), token, 'NX', 'PX', ARGV[6]) then return 1 end
  -- In a repeated call the token has the lease already.
  return redis.call('GET', lease_key(key)) == token and 1 or 0
end

-- A key of another type than string counts as missing, and storing a value replaces it.
local value = redis.pcall('GET', key)
local record = load_record(key)
if type(value) == 'string' then
  if not describes_value(key, record) then
    return { 'hit', value, math.max(0, redis.call('PTTL', key)), 0 }
  end
  if record.slide > 0 and record.fresh > now then
    local fresh = math.min(now + record.slide, record.made + tonumber(ARGV[8]))
    -- A small extension is not worth the writes.
    if fresh - record.fresh > record.slide / 10 then
      local ends = record.ends + fresh - record.fresh
      redis.call('PEXPIREAT', key, ends)
      redis.call('HSET', record_key(key), 'fresh', fresh, 'ends', ends)
      redis.call('PEXPIREAT', record_key(key), ends)
      add_to_tags(key, record.tags, ends)
      record.fresh = fresh
    end
  end
  local left = record.fresh - now
  local is_due = left <= record.cost * tonumber(ARGV[7])
  return { left > 0 and 'hit' or 'stale', value, math.max(0, left), is_due and acquire_lease() or 0 }
end
if record.negative then return { 'negative', '', redis.call('PTTL', record_key(key)), 0 } end
if token == '' then return { 'miss', '', 0, 0 } end
if acquire_lease() == 1 then return { 'compute', '', 0, 1 } end
return { 'wait', redis.call('GET', lease_key(key)), redis.call('PTTL', lease_key(key)), 0 }
