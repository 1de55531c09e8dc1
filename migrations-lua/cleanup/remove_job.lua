-- Removes an old job with all that belongs to it, in every database, unless somebody wrote to it meanwhile.
-- ARGV[5] 'dry' | 'real'   ARGV[6] updated_at and   ARGV[7] created_at as they were when the job was judged, or ''
-- Returns {'removed', {family, database, 'removed' | 'pruned', n, …}} | {'kept'}
use(JOBS_DB)
local MOST_FILES, MOST_ATTEMPTS = 1000, 100
local dry, counts = ARGV[5] == 'dry', {}
local v = redis.call('HMGET', JOB, 'updated_at', 'created_at', 'total_files', 'api_key_hash', 'idempotency', 'attempt')
if redis.call('EXISTS', JOB) == 0 or (v[1] or '') ~= ARGV[6] or (v[2] or '') ~= ARGV[7] then return { 'kept' } end
local owner = v[4] or redis.call('GET', SESSION)
local files = math.min(math.max(tonumber(v[3]) or 0, redis.call('LLEN', FILES)), MOST_FILES)

local function count(family, database, what, n)
  if n == 0 then return end
  for _, it in ipairs({ family, database, what, n }) do counts[#counts + 1] = it end
end

local function remove(family, database, keys)
  if #keys == 0 then return end
  use(database)
  count(family, database, 'removed', redis.call(dry and 'EXISTS' or 'UNLINK', unpack(keys)))
end

-- Takes `member` out of a collection, which is gone when it was the last.
local function prune(family, key, is_sorted, member)
  if dry then
    count(family, JOBS_DB, 'pruned', redis.call(is_sorted and 'ZSCORE' or 'SISMEMBER', key, member) and 1 or 0)
    return
  end
  local n = redis.call(is_sorted and 'ZREM' or 'SREM', key, member)
  count(family, JOBS_DB, 'pruned', n)
  if n > 0 and redis.call('EXISTS', key) == 0 then count(family, JOBS_DB, 'removed', 1) end
end

local function each_file(prefix)
  local keys = {}
  for i = 0, files - 1 do keys[i + 1] = prefix .. file_name(i) end
  return keys
end

local tasks = redis.call('HKEYS', TASKS)
local task_keys = {}
for i, task_id in ipairs(tasks) do
  task_keys[i] = TASK .. task_id
  prune('active_tasks', ACTIVE, true, task_id)
  prune('outbox', OUTBOX, true, task_id)
end
prune('cancelling', CANCELLING, true, job_id)
local webhooks, logs = {}, {}
for attempt = 1, math.min(tonumber(v[6]) or 1, MOST_ATTEMPTS) do
  local of = job_id .. ':' .. attempt
  prune('webhooks', WEBHOOKS, true, of)
  webhooks[attempt], logs[attempt] = WEBHOOK .. of, WEBHOOK .. of .. ':log'
end
remove('webhook', JOBS_DB, webhooks)
remove('webhook_log', JOBS_DB, logs)
if OWNED and owner then
  prune('user_jobs', OWNED .. owner, false, job_id)
  prune('user_jobs_by_time', OWNED .. owner .. ':by_time', true, job_id)
end
remove('task', JOBS_DB, task_keys)
remove('idempotency', JOBS_DB, { v[5] or nil })
remove('job_result', JOBS_DB, each_file(RESULT))
remove('job_status', JOBS_DB, { STATUS })
remove('job_files', JOBS_DB, { FILES })
remove('session', JOBS_DB, { SESSION })
remove('job_states', JOBS_DB, { STATES })
remove('job_tasks', JOBS_DB, { TASKS })
remove('progress', PROGRESS_DB, each_file(PERCENT))
remove('stream', PROGRESS_DB, { STREAM })
remove('cached_status', CACHE_DB, { CACHED })
remove('job', JOBS_DB, { JOB })
if not dry then publish_job_event('job_deleted', { status = 'deleted' }) end
return { 'removed', counts }
