-- Judges keys of one database, each by the rule of its family, and acts on it unless this is a dry run.
-- KEYS the keys, those of a family together
-- ARGV[1] 'numbered' | 'single' databases   ARGV[2] the database of the keys   ARGV[3] 'dry' | 'real'
-- ARGV[4] seconds after which anything is old   ARGV[5] seconds after which what a gone job left is removed
-- ARGV[6..] five a family: name, rule, types as '|string|hash|', TTL in seconds, number of keys
-- Rules: 'job' is old by its timestamps; 'of_job' is removed when its job is gone; 'alone' is old by its idle time,
-- if it has no TTL; 'kept' is renewed. Whatever stays and has no TTL is adopted: it gets that of its family.
-- Returns {'judged', {family, what, n, …}, {place in KEYS, updated_at, created_at, …}}, the last being jobs that are
-- old and are removed whole by another script. What is scanned | adopted | removed | foreign (of another type).
local numbered, database, dry = ARGV[1] == 'numbered', ARGV[2], ARGV[3] == 'dry'
local max_age, grace = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local DAY = 86400
local counts, old_jobs = {}, {}

-- Unix seconds of an ISO 8601 timestamp, naive (UTC, as the seed writes it) or with an offset; nil for anything else.
local function parse_time(text)
  local y, m, d, h, min, s, rest = string.match(text or '',
    '^(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d):(%d%d)(.*)$')
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if m <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
  local sign, oh, om = string.match(rest, '([+-])(%d%d):?(%d%d)$')
  local offset = sign and (tonumber(oh) * 60 + tonumber(om)) * 60 * (sign == '-' and -1 or 1) or 0
  return ((days * 24 + tonumber(h)) * 60 + tonumber(min)) * 60 + tonumber(s) - offset
end

-- Seconds since anybody used the key, or nil: under an LFU policy Redis does not know.
local function idle_time(key)
  local secs = redis.pcall('OBJECT', 'IDLETIME', key)
  return type(secs) == 'number' and secs or nil
end

-- In a cluster all keys of a call are of one partition, and begin with the same.
local head = numbered and '' or string.match(KEYS[1], '^.-{%x%x}:')

local function job_key(key)
  return head .. 'job:' .. (string.match(key, '%x+%-%x+%-%x+%-%x+%-%x+') or '')
end

-- Which of the jobs that these keys belong to exist. EXISTS, TYPE, TTL and OBJECT do not count as use.
local function find_jobs()
  local exists, at = {}, 0
  if numbered then redis.call('SELECT', 1) end
  for group = 6, #ARGV, 5 do
    local n = tonumber(ARGV[group + 4])
    if ARGV[group + 1] == 'of_job' then
      for i = at + 1, at + n do
        local job = job_key(KEYS[i])
        if exists[job] == nil then exists[job] = redis.call('EXISTS', job) == 1 end
      end
    end
    at = at + n
  end
  if numbered then redis.call('SELECT', database) end
  return exists
end

local function is_old_job(i, ttl)
  local idle = idle_time(KEYS[i])
  local v = redis.call('HMGET', KEYS[i], 'updated_at', 'created_at')
  local at = parse_time(v[1]) or parse_time(v[2])
  local age = at and time - at or (ttl < 0 and idle) or 0
  if age <= max_age then return false end
  for _, it in ipairs({ i, v[1] or '', v[2] or '' }) do old_jobs[#old_jobs + 1] = it end
  return true
end

-- A stream says itself when it was written. Else it is the idle time, or what has passed of the TTL that every writer
-- of these gives, the seed a day; of small numbers only the latter, since Redis keeps them once for all keys.
local function is_orphan(key, type_name, ttl, keep_secs, exists)
  if exists[job_key(key)] then return false end
  local age
  if type_name == 'stream' then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then age = time - tonumber(string.match(info[i + 1], '^%d+')) / 1000 end
    end
  else
    age = idle_time(key)
    if ttl >= 0 then age = math.max(age or 0, math.min(tonumber(keep_secs), DAY) - ttl) end
  end
  return age ~= nil and age >= grace
end

local function judge(i, rule, types, keep_secs, exists)
  local key = KEYS[i]
  local type_name = redis.call('TYPE', key).ok
  if type_name == 'none' then return nil end
  if not string.find(types, '|' .. type_name .. '|', 1, true) then return 'foreign' end
  local ttl = redis.call('TTL', key)
  if rule == 'kept' then
    if not dry then redis.call('EXPIRE', key, keep_secs) end
    return ttl < 0 and 'adopted' or 'scanned'
  end
  local doomed = false
  if rule == 'job' then
    if is_old_job(i, ttl) then return 'scanned' end
  elseif rule == 'of_job' then
    doomed = is_orphan(key, type_name, ttl, keep_secs, exists)
  else
    doomed = ttl < 0 and (idle_time(key) or 0) > max_age
  end
  if doomed then
    if not dry then redis.call('UNLINK', key) end
    return 'removed'
  end
  if ttl < 0 then
    if not dry then redis.call('EXPIRE', key, keep_secs) end
    return 'adopted'
  end
  return 'scanned'
end

local exists, at = find_jobs(), 0
for group = 6, #ARGV, 5 do
  local family, rule, types = ARGV[group], ARGV[group + 1], ARGV[group + 2]
  local n, found = tonumber(ARGV[group + 4]), {}
  for i = at + 1, at + n do
    local what = judge(i, rule, types, ARGV[group + 3], exists)
    if what then found[what] = (found[what] or 0) + 1 end
    if what == 'adopted' or what == 'removed' then found.scanned = (found.scanned or 0) + 1 end
  end
  at = at + n
  for what, count in pairs(found) do
    for _, it in ipairs({ family, what, count }) do counts[#counts + 1] = it end
  end
end
return { 'judged', counts, old_jobs }
