-- Begins a new attempt of the files that failed or were cancelled; completed files keep their results.
-- ARGV[5] attempt of the job that the caller read   ARGV[6..] three arguments a Celery task (see add_tasks)
-- Returns {'retrying', number of files} | {'refused', status} | {'changed'}: the job has another attempt | {'missing'}
local job = load_job()
if not job then return { 'missing' } end
if job.attempt ~= tonumber(ARGV[5]) then return { 'changed' } end
if job.status ~= 'failed' and job.status ~= 'partial' and job.status ~= 'cancelled' then
  return { 'refused', job.status }
end
-- Another program may have set a job to failed that has all its results.
if job.completed >= job.total then return { 'refused', job.status } end

for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do redis.call('UNLINK', TASK_PREFIX .. task_id) end
redis.call('UNLINK', TASKS)
local states, retried = load_states(), 0
for i = 0, job.total - 1 do
  local file_id = file_id_at(i)
  local state = states[file_id] or { status = 'failed', attempt = 1, note = '' }
  if state.status ~= 'completed' then
    if state.status == 'failed' then job.failed = math.max(0, job.failed - 1) end
    states[file_id] = { status = 'retrying', attempt = state.attempt + 1, note = '' }
    save_state(file_id, states[file_id])
    redis.call('UNLINK', RESULT_PREFIX .. file_id)
    select_db(PROGRESS_DB)
    redis.call('SET', PERCENT_PREFIX .. file_id, '0', 'EX', ttl)
    retried = retried + 1
  end
end
job.overall = 0
job.overall = overall_percent(job, states, load_percents(job.total))
set_status('pending')
redis.call('HDEL', JOB, 'ended_at', 'terminal_id', 'error', 'started_at')
save_job('attempt', job.attempt + 1, 'overall', job.overall, 'failed_files', job.failed)
add_tasks(6, job.attempt + 1)
add_entry('', job.overall, 'event', 'task_queued', 'status', 'pending', 'overall', job.overall,
  'completed', job.completed, 'failed', job.failed, 'total', job.total)
publish_job_event('job_retrying', { status = 'pending', attempt = job.attempt + 1 })
refresh_ttls(job)
return { 'retrying', retried }
