-- In a cluster: ids of an owner's jobs, newest first.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', by creation in Unix ms
-- ARGV[1] limit   ARGV[2] cursor: score, or '+inf'   ARGV[3] cursor: job id, or ''
-- ARGV[4] oldest creation in Unix ms, or '-inf'
-- Returns {'page', current Unix ms, {id, score, ...}, {id, ...}}. The last array has up to 100 ids that are only in the
-- set, because other programs added them.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local limit, score, after = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local unsorted = {}
if redis.call('SCARD', KEYS[1]) ~= redis.call('ZCARD', KEYS[2]) then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local is_job_id = #id == 36 and string.match(id, '^[%x%-]+$') ~= nil
    if is_job_id and #unsorted < 100 and not redis.call('ZSCORE', KEYS[2], id) then unsorted[#unsorted + 1] = id end
  end
end

local ids, offset = {}, 0
while #ids < 2 * limit do
  local batch = redis.call('ZREVRANGEBYSCORE', KEYS[2], score, ARGV[4], 'WITHSCORES', 'LIMIT', offset, limit)
  if #batch == 0 then break end
  for i = 1, #batch, 2 do
    -- Jobs with the same score are in descending order of their ids.
    if #ids < 2 * limit and (after == '' or batch[i + 1] ~= score or batch[i] < after) then
      ids[#ids + 1] = batch[i]
      ids[#ids + 1] = batch[i + 1]
    end
  end
  offset = offset + #batch / 2
end
return { 'page', now, ids, unsorted }
