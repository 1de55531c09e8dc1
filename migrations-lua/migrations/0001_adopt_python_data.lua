-- Adopts what the Python service left: its jobs get the fields and keys that ours have and a place in their owner's
-- sorted set, and keys without an end get one. What is there already is not changed.
-- Gets the cursor ('' at first), about how many keys to look at, the TTL of a job in seconds, and whether databases
-- are numbered. Returns the next cursor, 'database:SCAN cursor', or nil after the last piece.
local cursor, batch, ttl, numbered = ...
local UUID = '%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x'
local MOST_FILES, LOCK_SECS, METRIC_SECS = 1000, 3600, 7 * 86400
local database, position = string.match(cursor, '^(%d):(%d+)$')
database, position = tonumber(database or 1), position or '0'

local function use(number)
  if numbered then redis.call('SELECT', number) end
end

local function is_type(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found == wanted or found == 'none'
end

local function adopt(key, secs)
  if redis.call('TTL', key) == -1 then redis.call('EXPIRE', key, secs) end
end

-- Milliseconds of a naive UTC timestamp, after Howard Hinnant's days_from_civil; nil for anything else.
local function parse_ms(text)
  local y, m, d, h, min, s, ms = string.match(text or '', '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)%.?(%d?%d?%d?)')
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if m <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
  local fraction = ms == '' and 0 or tonumber(ms .. string.rep('0', 3 - #ms))
  return ((days * 24 + tonumber(h)) * 60 + tonumber(min)) * 60000 + tonumber(s) * 1000 + fraction
end

-- An owner's set has to outlive the job, and lists are made from the sorted set beside it.
local function adopt_owner(owner, id, created_ms, left)
  local set, by_time = 'user_jobs:' .. owner, 'user_jobs:' .. owner .. ':by_time'
  if not is_type(set, 'set') or not is_type(by_time, 'zset') then return end
  redis.call('SADD', set, id)
  redis.call('ZADD', by_time, 'NX', created_ms, id)
  for _, key in ipairs({ set, by_time }) do
    if redis.call('TTL', key) < left then redis.call('EXPIRE', key, left) end
  end
end

local function adopt_job(key, id)
  local v = redis.call('HMGET', key, 'total_files', 'status', 'api_key_hash', 'created_at')
  local total, status, owner = tonumber(v[1]), v[2] or 'pending', v[3]
  -- Without it, it is no job: an update of an expired one made it.
  if not total then return end
  redis.call('HSETNX', key, 'attempt', 1)
  local left = math.max(redis.call('TTL', key), 1)
  redis.call('SET', key .. ':status', status, 'EX', left, 'NX')
  if owner then
    redis.call('SET', 'session:' .. id, owner, 'EX', left, 'NX')
    local created_ms = parse_ms(v[4])
    if created_ms and string.match(owner, '^%x+$') and #owner == 64 then adopt_owner(owner, id, created_ms, left) end
  end
  use(2)
  for i = 0, math.min(total, MOST_FILES) - 1 do
    redis.call('SET', string.format('progress:%s:file_%03d', id, i), '0', 'EX', left, 'NX')
  end
  use(1)
end

-- The TTL of a key that has none, or nil if it is not the Python service's.
local function lifetime(key)
  local begins = function(pattern) return string.match(key, '^' .. pattern) ~= nil end
  if database == 1 then
    if begins('lock:') then return LOCK_SECS end
    if begins('job:' .. UUID) or begins('session:' .. UUID .. '$') then return ttl end
    if begins('user_jobs:%x+$') and #key == 74 then return ttl end
  elseif database == 2 then
    if begins('progress:' .. UUID .. ':') or begins('stream:progress:' .. UUID .. '$') then return ttl end
  elseif database == 3 then
    -- A count without an end counts as none; so it must not begin to block.
    if begins('rl:') then return 1 end
  elseif begins('metric:.+:count$') or begins('metric:.+:value$') then
    return METRIC_SECS
  elseif begins('cache:') or begins('tag:') then
    return ttl
  end
end

-- Metrics are listed by this.
local function list_metric(key)
  redis.call('ZADD', 'i2m:metrics:names', 'NX', redis.call('TIME')[1], key)
  if redis.call('TTL', 'i2m:metrics:names') < METRIC_SECS then
    redis.call('EXPIRE', 'i2m:metrics:names', METRIC_SECS)
  end
end

use(database)
local page = redis.call('SCAN', position, 'COUNT', batch)
for _, key in ipairs(page[2]) do
  local secs = lifetime(key)
  if secs then adopt(key, secs) end
  if secs and string.match(key, '^metric:') and redis.call('TYPE', key).ok == 'string' then list_metric(key) end
  local id = database == 1 and string.match(key, '^job:(' .. UUID .. ')$')
  if id and redis.call('TYPE', key).ok == 'hash' then adopt_job(key, id) end
end
if page[1] ~= '0' then return database .. ':' .. page[1] end
if database < 4 then return (database + 1) .. ':0' end
return nil
