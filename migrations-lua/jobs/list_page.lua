-- A page of an owner's jobs, newest first. Includes `shared/parse_timestamp.lua`.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', by creation in Unix ms
-- ARGV[1] limit   ARGV[2] cursor: score, or '+inf'   ARGV[3] cursor: job id, or ''
-- ARGV[4] oldest creation in Unix ms, or '-inf'   ARGV[5] status or ''   ARGV[6] maximum number of jobs to scan
-- Returns {'page', score of the next cursor or '', its job id, {record, ...}}. A record has the fields named below and
-- the JSON of the job's first file. Ids of deleted jobs are removed from both keys.
local FIELDS = { 'job_id', 'status', 'total_files', 'completed_files', 'failed_files', 'overall', 'created_at',
  'updated_at', 'error' }

-- Jobs that other programs added are only in the set.
if redis.call('SCARD', KEYS[1]) ~= redis.call('ZCARD', KEYS[2]) then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    -- With an id that is not a UUID, 'job:' .. id may be a key of another kind.
    if #id == 36 and string.match(id, '^[%x%-]+$') and not redis.call('ZSCORE', KEYS[2], id) then
      local created = parse_timestamp(redis.call('HGET', 'job:' .. id, 'created_at'))
      if created then redis.call('ZADD', KEYS[2], created, id) else redis.call('SREM', KEYS[1], id) end
    end
  end
  local ttl = redis.call('TTL', KEYS[1])
  if ttl > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
end

local limit, max_scanned = tonumber(ARGV[1]), tonumber(ARGV[6])
local score, after = ARGV[2], ARGV[3]
local page, offset, scanned = {}, 0, 0
local function finish(next_score, next_id) return { 'page', next_score, next_id, page } end

while true do
  local batch = redis.call('ZREVRANGEBYSCORE', KEYS[2], score, ARGV[4], 'WITHSCORES', 'LIMIT', offset, 100)
  if #batch == 0 then return finish('', '') end
  for i = 1, #batch, 2 do
    local id, id_score = batch[i], batch[i + 1]
    -- Jobs with the same score are in descending order of their ids.
    if after == '' or id_score ~= score or id < after then
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
      scanned = scanned + 1
      if #page >= limit or scanned >= max_scanned then return finish(id_score, id) end
    end
  end
  offset = offset + #batch / 2
end
