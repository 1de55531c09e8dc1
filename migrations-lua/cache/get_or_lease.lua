-- Reads a value, and says who has to compute it if it is missing, stale, or about to become so.
-- KEYS[1] the value   ARGV[5] a token with which to claim the computation, or '' to claim nothing
-- ARGV[6] how long a claim lasts, in ms   ARGV[7] how many times its cost before its end a value is computed anew
-- ARGV[8] the longest, in ms, that hits may keep a value fresh
-- Returns {'hit' | 'stale', value, ms that it is fresh for, 1 if the token has the claim, else 0}
--   | {'negative', '', ms left, 0} | {'compute', '', 0, 1}: missing, and the token has the claim
--   | {'wait', token of another's claim, ms that it lasts, 0} | {'miss', '', 0, 0}: missing, and nothing was to be claimed
local key, token = KEYS[1], ARGV[5]

local function claim()
  if token == '' then return 0 end
  if redis.call('SET', claim_of(key), token, 'NX', 'PX', ARGV[6]) then return 1 end
  -- Ours already, if the call is repeated.
  return redis.call('GET', claim_of(key)) == token and 1 or 0
end

-- Of another type than a string it is nobody's value; storing one replaces it.
local value = redis.pcall('GET', key)
local record = load_record(key)
if type(value) == 'string' then
  if not is_about_value(key, record) then
    return { 'hit', value, math.max(0, redis.call('PTTL', key)), 0 }
  end
  if record.slide > 0 and record.fresh > now then
    local fresh = math.min(now + record.slide, record.made + tonumber(ARGV[8]))
    -- Not at each hit.
    if fresh - record.fresh > record.slide / 10 then
      local ends = record.ends + fresh - record.fresh
      redis.call('PEXPIREAT', key, ends)
      redis.call('HSET', record_of(key), 'fresh', fresh, 'ends', ends)
      redis.call('PEXPIREAT', record_of(key), ends)
      tag_until(key, record.tags, ends)
      record.fresh = fresh
    end
  end
  local left = record.fresh - now
  local is_due = left <= record.cost * tonumber(ARGV[7])
  return { left > 0 and 'hit' or 'stale', value, math.max(0, left), is_due and claim() or 0 }
end
if record.negative then return { 'negative', '', redis.call('PTTL', record_of(key)), 0 } end
if token == '' then return { 'miss', '', 0, 0 } end
if claim() == 1 then return { 'compute', '', 0, 1 } end
return { 'wait', redis.call('GET', claim_of(key)), redis.call('PTTL', claim_of(key)), 0 }
