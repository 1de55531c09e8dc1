-- Stores the result of a file and counts it once. The last file ends the job.
-- ARGV[5] file_id   ARGV[6] 'completed' | 'failed'   ARGV[7] attempt ('0': the current one)
-- ARGV[8] result JSON   ARGV[9] error text or ''
-- Returns {'stored', job status, lifecycle events} | {'duplicate', job status} | {'stale', current attempt of the file}
--   | {'missing'} | {'refused', job status} | {'unknown_file', file_id}
local job = load_job()
if not job then return { 'missing' } end
local file_id, status, attempt, err = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[9]
if tonumber(string.match(file_id, '^file_(%d+)$')) >= job.total then return { 'unknown_file', file_id } end

local states = load_states()
local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
if attempt == 0 then attempt = state.attempt end
if attempt < state.attempt then return { 'stale', state.attempt } end
if state.status == 'completed' or state.status == 'failed' then return { 'duplicate', job.status } end
if TERMINAL[job.status] then return { 'refused', job.status } end

states[file_id] = { status = status, attempt = attempt, note = err }
save_state(file_id, states[file_id])
redis.call('SET', RESULT_PREFIX .. file_id, ARGV[8], 'EX', ttl)
if status == 'completed' then
  job.completed = math.min(job.total - job.failed, job.completed + 1)
else
  job.failed = math.min(job.total - job.completed, job.failed + 1)
end

select_db(PROGRESS_DB)
local percent = 100
if status == 'failed' then percent = tonumber(redis.call('GET', PERCENT_PREFIX .. file_id)) or 0 end
redis.call('SET', PERCENT_PREFIX .. file_id, percent, 'EX', ttl)
mark_processing(job)
job.overall = overall_percent(job, states, load_percents(job.total))
save_job('overall', job.overall, 'completed_files', job.completed, 'failed_files', job.failed)
local fields = { 'status', status, 'attempt', attempt, 'overall', job.overall,
  'completed', job.completed, 'failed', job.failed, 'total', job.total }
if err ~= '' then fields[#fields + 1] = 'error'; fields[#fields + 1] = err end
add_entry(file_id, percent, unpack(fields))
publish_progress(file_id, percent, err ~= '' and err or nil)
if job.completed + job.failed >= job.total then
  -- A job that completed all files before its workers stopped is not cancelled: there is nothing to retry.
  local is_cancelled = job.status == 'cancelling' and job.completed < job.total
  end_job(job, states, is_cancelled and 'cancelled' or 'completed', '')
end
refresh_ttls(job)
return { 'stored', job.status, lifecycle_events }
