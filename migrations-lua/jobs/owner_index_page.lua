-- In a cluster: ids of an owner's jobs, newest first.
-- KEYS[1] user_jobs:{owner} set   KEYS[2] the same, ':by_time', sorted by creation
-- ARGV[1] how many   ARGV[2] cursor: score, or '+inf'   ARGV[3] cursor: job id, or ''
-- ARGV[4] oldest creation in ms, or '-inf'
-- Returns {'listed', Unix ms of now, {id, score, …}, {id, …}}, the last being some that stand in the set only, put
-- there by other programs
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local most, score, after = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local unsorted = {}
if redis.call('SCARD', KEYS[1]) ~= redis.call('ZCARD', KEYS[2]) then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    -- Only a UUID is a job of ours.
    local is_ours = #id == 36 and string.match(id, '^[%x%-]+$') ~= nil
    if is_ours and #unsorted < 100 and not redis.call('ZSCORE', KEYS[2], id) then unsorted[#unsorted + 1] = id end
  end
end

local ids, offset = {}, 0
while #ids < 2 * most do
  local batch = redis.call('ZREVRANGEBYSCORE', KEYS[2], score, ARGV[4], 'WITHSCORES', 'LIMIT', offset, most)
  if #batch == 0 then break end
  for i = 1, #batch, 2 do
    -- Jobs of one millisecond stand in falling order of their ids.
    if #ids < 2 * most and (after == '' or batch[i + 1] ~= score or batch[i] < after) then
      ids[#ids + 1] = batch[i]
      ids[#ids + 1] = batch[i + 1]
    end
  end
  offset = offset + #batch / 2
end
return { 'listed', now, ids, unsorted }
