-- Applies the cleanup rules to keys of one database, each by the rule of its family; a dry run changes nothing.
-- Includes `shared/parse_timestamp.lua`.
-- KEYS the keys, grouped by family
-- ARGV[1] layout: 'numbered' databases | 'cluster'   ARGV[2] the database of the keys   ARGV[3] 'dry' | 'real'
-- ARGV[4] max_age in seconds   ARGV[5] seconds until a key of a deleted job is removed
-- ARGV[6..] five arguments a family: name, rule, types as '|string|hash|', TTL in seconds, number of keys
-- Rules: 'job' expires by its timestamps; 'of_job' is removed when its job is deleted; 'alone' expires by its idle
-- time, if it has no TTL; 'kept' gets a new TTL. A key without a TTL that is not removed is adopted: it gets the TTL
-- of its family.
-- Returns {'applied', {family, action, count, ...}, {index in KEYS, updated_at, created_at, ...}}. The last array has
-- expired jobs, which another script removes as a whole. Actions: scanned | adopted | removed | wrong_type.
local is_numbered, database, is_dry_run = ARGV[1] == 'numbered', ARGV[2], ARGV[3] == 'dry'
local max_age, grace = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local DAY = 86400
local counts, expired_jobs = {}, {}

-- Seconds since the last use of the key, or nil: under an LFU policy Redis has no idle times.
local function idle_time(key)
  local secs = redis.pcall('OBJECT', 'IDLETIME', key)
  return type(secs) == 'number' and secs or nil
end

-- In a cluster all keys of a call are in one partition and start with its prefix.
local partition_prefix = is_numbered and '' or string.match(KEYS[1], '^.-{%x%x}:')

local function job_key(key)
  return partition_prefix .. 'job:' .. (string.match(key, '%x+%-%x+%-%x+%-%x+%-%x+') or '')
end

-- For each key of the rule 'of_job', whether its job exists. EXISTS, TYPE, TTL and OBJECT do not reset idle times.
local function find_jobs()
  local exists, offset = {}, 0
  if is_numbered then redis.call('SELECT', 1) end
  for group = 6, #ARGV, 5 do
    local key_count = tonumber(ARGV[group + 4])
    if ARGV[group + 1] == 'of_job' then
      for i = offset + 1, offset + key_count do
        local job = job_key(KEYS[i])
        if exists[job] == nil then exists[job] = redis.call('EXISTS', job) == 1 end
      end
    end
    offset = offset + key_count
  end
  if is_numbered then redis.call('SELECT', database) end
  return exists
end

local function is_expired_job(i, ttl)
  local idle = idle_time(KEYS[i])
  local fields = redis.call('HMGET', KEYS[i], 'updated_at', 'created_at')
  local changed_ms = parse_timestamp(fields[1]) or parse_timestamp(fields[2])
  local age = changed_ms and time - changed_ms / 1000 or (ttl < 0 and idle) or 0
  if age <= max_age then return false end
  for _, value in ipairs({ i, fields[1] or '', fields[2] or '' }) do expired_jobs[#expired_jobs + 1] = value end
  return true
end

-- Whether a key outlived its job by the grace period. The age of a stream is that of its last entry. The age of
-- another key is its idle time or the elapsed part of its TTL, which every writer sets (the seed a day). Small
-- integers have only the latter, because Redis shares one object among all keys.
local function is_orphan(key, type_name, ttl, family_ttl, exists)
  if exists[job_key(key)] then return false end
  local age
  if type_name == 'stream' then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then age = time - tonumber(string.match(info[i + 1], '^%d+')) / 1000 end
    end
  else
    age = idle_time(key)
    if ttl >= 0 then age = math.max(age or 0, math.min(tonumber(family_ttl), DAY) - ttl) end
  end
  return age ~= nil and age >= grace
end

-- Applies a rule to a key. Returns the action, or nil if the key does not exist.
local function evaluate(i, rule, types, family_ttl, exists)
  local key = KEYS[i]
  local type_name = redis.call('TYPE', key).ok
  if type_name == 'none' then return nil end
  if not string.find(types, '|' .. type_name .. '|', 1, true) then return 'wrong_type' end
  local ttl = redis.call('TTL', key)
  if rule == 'kept' then
    if not is_dry_run then redis.call('EXPIRE', key, family_ttl) end
    return ttl < 0 and 'adopted' or 'scanned'
  end
  local is_expired = false
  if rule == 'job' then
    if is_expired_job(i, ttl) then return 'scanned' end
  elseif rule == 'of_job' then
    is_expired = is_orphan(key, type_name, ttl, family_ttl, exists)
  else
    is_expired = ttl < 0 and (idle_time(key) or 0) > max_age
  end
  if is_expired then
    if not is_dry_run then redis.call('UNLINK', key) end
    return 'removed'
  end
  if ttl < 0 then
    if not is_dry_run then redis.call('EXPIRE', key, family_ttl) end
    return 'adopted'
  end
  return 'scanned'
end

local exists, offset = find_jobs(), 0
for group = 6, #ARGV, 5 do
  local family, rule, types = ARGV[group], ARGV[group + 1], ARGV[group + 2]
  local key_count, family_counts = tonumber(ARGV[group + 4]), {}
  for i = offset + 1, offset + key_count do
    local action = evaluate(i, rule, types, ARGV[group + 3], exists)
    if action then family_counts[action] = (family_counts[action] or 0) + 1 end
    if action == 'adopted' or action == 'removed' then family_counts.scanned = (family_counts.scanned or 0) + 1 end
  end
  offset = offset + key_count
  for action, count in pairs(family_counts) do
    for _, value in ipairs({ family, action, count }) do counts[#counts + 1] = value end
  end
end
return { 'applied', counts, expired_jobs }
