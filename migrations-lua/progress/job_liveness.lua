-- How some jobs stand, for a process that watches them: cheap enough to ask for all of them now and then.
-- KEYS job:{id} hashes; then as many streams, in the same order    ARGV[1] 'numbered' | 'single' databases
-- Returns an array for each job: { 1 if it exists else 0, 'has_end' | 'no_end', last stream id, status }
local JOBS_DB, PROGRESS_DB = 1, 2

local function use(database)
  if ARGV[1] == 'numbered' then redis.call('SELECT', database) end
end

local n, answers = #KEYS / 2, {}
use(JOBS_DB)
for i = 1, n do
  local v = redis.call('HMGET', KEYS[i], 'total_files', 'status', 'terminal_id')
  -- A hash without total_files is no job: the seed's update_job_status makes such a ghost out of an expired one.
  answers[i] = { v[1] and 1 or 0, v[3] and v[3] ~= '' and 'has_end' or 'no_end', '0-0', v[2] or '' }
end
use(PROGRESS_DB)
for i = 1, n do
  local last = redis.call('XREVRANGE', KEYS[n + i], '+', '-', 'COUNT', 1)
  if last[1] then answers[i][3] = last[1][1] end
end
return answers
