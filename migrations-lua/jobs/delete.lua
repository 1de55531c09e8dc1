-- Deletes every key of a job in every database, and removes the job from its owner index.
-- Returns {'deleted', {owner, name of the key of its Idempotency-Key}} | {'missing'}; both are '' if absent
local job = load_job()
if not job then return { 'missing' } end
clear_tasks()
delete_webhooks(job)
local owner = redis.call('GET', SESSION) or job.owner
local idempotency = redis.call('HGET', JOB, 'idempotency')
local keys = { JOB, STATUS, FILES, SESSION, STATES, TASKS }
for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do keys[#keys + 1] = TASK_PREFIX .. task_id end
for i = 0, job.total - 1 do keys[#keys + 1] = RESULT_PREFIX .. file_id_at(i) end
if idempotency then keys[#keys + 1] = idempotency end
redis.call('UNLINK', unpack(keys))
if OWNER_INDEX and owner then
  redis.call('SREM', OWNER_INDEX .. owner, job_id)
  redis.call('ZREM', OWNER_INDEX .. owner .. ':by_time', job_id)
end
select_db(PROGRESS_DB)
keys = { STREAM }
for i = 0, job.total - 1 do keys[#keys + 1] = PERCENT_PREFIX .. file_id_at(i) end
redis.call('UNLINK', unpack(keys))
select_db(CACHE_DB)
redis.call('UNLINK', CACHED_STATUS)
publish_job_event('job_deleted', { status = 'deleted' })
return { 'deleted', { owner or '', idempotency or '' } }
