-- Begins to cancel a job: unsent tasks leave the outbox, and the reply contains the tasks to revoke.
-- ARGV[5] time that workers have to stop, in ms
-- Returns {'cancelling', {task id, 'queue key\nmessage', ...}} | {'already_terminal', status} | {'missing'}
-- A job that is being cancelled already gets the same reply, so that the caller can repeat the call after a crash.
local job = load_job()
if not job then return { 'missing' } end
if TERMINAL[job.status] then return { 'already_terminal', job.status } end

for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do redis.call('ZREM', OUTBOX, task_id) end
if job.status ~= 'cancelling' then
  set_status('cancelling')
  save_job()
  redis.call('ZADD', CANCELLING, now_ms + tonumber(ARGV[5]), job_id)
  redis.call('EXPIRE', CANCELLING, ttl)
  publish_job_event('job_cancelling', { status = 'cancelling' })
end
refresh_ttls(job)
select_db(JOBS_DB)
return { 'cancelling', redis.call('HGETALL', TASKS) }
