-- A page of an owner's jobs, newest first.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', sorted by creation
-- ARGV[1] limit   ARGV[2] cursor: score, or '+inf'   ARGV[3] cursor: job id, or ''
-- ARGV[4] oldest creation in ms, or '-inf'   ARGV[5] status or ''   ARGV[6] most jobs to look at
-- Returns {'page', score of the next cursor or '', its job id, {record, …}}, a record being the flat fields
-- named below and the JSON of the job's first file. Ids of jobs that are gone are dropped from both keys on the way.
local FIELDS = { 'job_id', 'status', 'total_files', 'completed_files', 'failed_files', 'overall', 'created_at',
  'updated_at', 'error' }

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

-- Jobs that other programs added stand in the set only.
if redis.call('SCARD', KEYS[1]) ~= redis.call('ZCARD', KEYS[2]) then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    -- Only a UUID is a job of ours; with anything else 'job:' .. id may be a key of another kind.
    if #id == 36 and string.match(id, '^[%x%-]+$') and not redis.call('ZSCORE', KEYS[2], id) then
      local created = parse_ms(redis.call('HGET', 'job:' .. id, 'created_at'))
      if created then redis.call('ZADD', KEYS[2], created, id) else redis.call('SREM', KEYS[1], id) end
    end
  end
  local ttl = redis.call('TTL', KEYS[1])
  if ttl > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
end

local limit, look = tonumber(ARGV[1]), tonumber(ARGV[6])
local score, after = ARGV[2], ARGV[3]
local page, offset, seen = {}, 0, 0
local function finish(next_score, next_id) return { 'page', next_score, next_id, page } end

while true do
  local batch = redis.call('ZREVRANGEBYSCORE', KEYS[2], score, ARGV[4], 'WITHSCORES', 'LIMIT', offset, 100)
  if #batch == 0 then return finish('', '') end
  for i = 1, #batch, 2 do
    local id, at = batch[i], batch[i + 1]
    -- Jobs of one millisecond stand in falling order of their ids.
    if after == '' or at ~= score or id < after then
      local record = redis.call('HMGET', 'job:' .. id, unpack(FIELDS))
      record[#FIELDS + 1] = redis.call('LINDEX', 'job:' .. id .. ':files', 0)
      if not record[3] then
        redis.call('SREM', KEYS[1], id)
        redis.call('ZREM', KEYS[2], id)
        offset = offset - 1
      elseif ARGV[5] == '' or record[2] == ARGV[5] then
        record[1] = id
        page[#page + 1] = record
      end
      seen = seen + 1
      if #page >= limit or seen >= look then return finish(at, id) end
    end
  end
  offset = offset + #batch / 2
end
