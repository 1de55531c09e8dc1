-- Existence, status and stream position of many jobs at once, cheap enough to poll.
-- KEYS job:{id} hashes, then their streams in the same order    ARGV[1] layout: 'numbered' databases | 'cluster'
-- Returns an array a job: {1 if it exists else 0, 'has_terminal_entry' | 'no_terminal_entry', last stream id, status}
local JOBS_DB, PROGRESS_DB = 1, 2

local function select_db(database)
  if ARGV[1] == 'numbered' then redis.call('SELECT', database) end
end

local job_count, replies = #KEYS / 2, {}
select_db(JOBS_DB)
for i = 1, job_count do
  local fields = redis.call('HMGET', KEYS[i], 'total_files', 'status', 'terminal_id')
  local has_terminal_entry = fields[3] and fields[3] ~= ''
  -- A hash without total_files is not a job: the seed's update_job_status creates such a hash for an expired job.
  replies[i] = { fields[1] and 1 or 0, has_terminal_entry and 'has_terminal_entry' or 'no_terminal_entry', '0-0',
    fields[2] or '' }
end
select_db(PROGRESS_DB)
for i = 1, job_count do
  local newest = redis.call('XREVRANGE', KEYS[job_count + i], '+', '-', 'COUNT', 1)
  if newest[1] then replies[i][3] = newest[1][1] end
end
return replies
