-- Removes an expired job with all its keys, in every database, unless it was changed since the rules were applied.
-- ARGV[5] 'dry' | 'real'   ARGV[6] updated_at and   ARGV[7] created_at when the rules were applied, or ''
-- Returns {'removed', {family, database, 'removed' | 'pruned', count, ...}} | {'modified'}
select_db(JOBS_DB)
local MAX_FILES, MAX_ATTEMPTS = 1000, 100
local is_dry_run, counts = ARGV[5] == 'dry', {}
local fields =
  redis.call('HMGET', JOB, 'updated_at', 'created_at', 'total_files', 'api_key_hash', 'idempotency', 'attempt')
local is_unchanged = (fields[1] or '') == ARGV[6] and (fields[2] or '') == ARGV[7]
if redis.call('EXISTS', JOB) == 0 or not is_unchanged then return { 'modified' } end
local owner = fields[4] or redis.call('GET', SESSION)
local total = math.min(math.max(tonumber(fields[3]) or 0, redis.call('LLEN', FILES)), MAX_FILES)

local function count(family, database, action, number)
  if number == 0 then return end
  for _, value in ipairs({ family, database, action, number }) do counts[#counts + 1] = value end
end

local function remove(family, database, keys)
  if #keys == 0 then return end
  select_db(database)
  count(family, database, 'removed', redis.call(is_dry_run and 'EXISTS' or 'UNLINK', unpack(keys)))
end

-- Removes `member` from a collection. Redis deletes the collection with its last member.
local function prune(family, key, is_sorted, member)
  if is_dry_run then
    count(family, JOBS_DB, 'pruned', redis.call(is_sorted and 'ZSCORE' or 'SISMEMBER', key, member) and 1 or 0)
    return
  end
  local removed = redis.call(is_sorted and 'ZREM' or 'SREM', key, member)
  count(family, JOBS_DB, 'pruned', removed)
  if removed > 0 and redis.call('EXISTS', key) == 0 then count(family, JOBS_DB, 'removed', 1) end
end

local function file_keys(prefix)
  local keys = {}
  for i = 0, total - 1 do keys[i + 1] = prefix .. file_id_at(i) end
  return keys
end

local tasks = redis.call('HKEYS', TASKS)
local task_keys = {}
for i, task_id in ipairs(tasks) do
  task_keys[i] = TASK_PREFIX .. task_id
  prune('active_tasks', ACTIVE, true, task_id)
  prune('outbox', OUTBOX, true, task_id)
end
prune('cancelling', CANCELLING, true, job_id)
local webhooks, logs = {}, {}
for attempt = 1, math.min(tonumber(fields[6]) or 1, MAX_ATTEMPTS) do
  local webhook_id = job_id .. ':' .. attempt
  prune('webhooks', WEBHOOKS, true, webhook_id)
  webhooks[attempt], logs[attempt] = WEBHOOK_PREFIX .. webhook_id, WEBHOOK_PREFIX .. webhook_id .. ':log'
end
remove('webhook', JOBS_DB, webhooks)
remove('webhook_log', JOBS_DB, logs)
if OWNER_INDEX and owner then
  prune('user_jobs', OWNER_INDEX .. owner, false, job_id)
  prune('user_jobs_by_time', OWNER_INDEX .. owner .. ':by_time', true, job_id)
end
remove('task', JOBS_DB, task_keys)
remove('idempotency', JOBS_DB, { fields[5] or nil })
remove('job_result', JOBS_DB, file_keys(RESULT_PREFIX))
remove('job_status', JOBS_DB, { STATUS })
remove('job_files', JOBS_DB, { FILES })
remove('session', JOBS_DB, { SESSION })
remove('job_states', JOBS_DB, { STATES })
remove('job_tasks', JOBS_DB, { TASKS })
remove('progress', PROGRESS_DB, file_keys(PERCENT_PREFIX))
remove('stream', PROGRESS_DB, { STREAM })
remove('cached_status', CACHE_DB, { CACHED_STATUS })
remove('job', JOBS_DB, { JOB })
if not is_dry_run then publish_job_event('job_deleted', { status = 'deleted' }) end
return { 'removed', counts }
