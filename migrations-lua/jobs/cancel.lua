-- Begins to cancel a job: nothing of it is handed to workers any more, and what was can be withdrawn.
-- ARGV[5] until when workers may take to stop, in milliseconds from now
-- Returns {'cancelling', {task id, 'queue key\nmessage', …}} | {'over', status} | {'missing'}
-- A job that is being cancelled already is answered the same again, so that a crash after this can be made good.
local job = load_job()
if not job then return { 'missing' } end
if ENDED[job.status] then return { 'over', job.status } end

for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do redis.call('ZREM', OUTBOX, task_id) end
if job.status ~= 'cancelling' then
  set_status('cancelling')
  save_job()
  redis.call('ZADD', CANCELLING, now_ms + tonumber(ARGV[5]), job_id)
  redis.call('EXPIRE', CANCELLING, ttl)
  publish_job_event('job_cancelling', { status = 'cancelling' })
end
renew(job)
use(JOBS_DB)
return { 'cancelling', redis.call('HGETALL', TASKS) }
