-- Removes every key of a job in every database, and the job from its owner's set.
-- Returns {'deleted', {owner, name of the Idempotency-Key's key}} | {'missing'}, each '' if there is none
local job = load_job()
if not job then return { 'missing' } end
forget_tasks()
forget_webhooks(job)
local owner = redis.call('GET', SESSION) or job.owner
local idempotency = redis.call('HGET', JOB, 'idempotency')
local doomed = { JOB, STATUS, FILES, SESSION, STATES, TASKS }
for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do doomed[#doomed + 1] = TASK .. task_id end
for i = 0, job.total - 1 do doomed[#doomed + 1] = RESULT .. file_name(i) end
if idempotency then doomed[#doomed + 1] = idempotency end
redis.call('UNLINK', unpack(doomed))
if OWNED and owner then
  redis.call('SREM', OWNED .. owner, job_id)
  redis.call('ZREM', OWNED .. owner .. ':by_time', job_id)
end
use(PROGRESS_DB)
doomed = { STREAM }
for i = 0, job.total - 1 do doomed[#doomed + 1] = PERCENT .. file_name(i) end
redis.call('UNLINK', unpack(doomed))
use(CACHE_DB)
redis.call('UNLINK', CACHED)
publish_job_event('job_deleted', { status = 'deleted' })
return { 'deleted', { owner or '', idempotency or '' } }
