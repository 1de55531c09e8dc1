-- Common part of scripts that change a job: the steps of its lifecycle, its events, and the TTLs of its keys.
-- Follows `shared/job.lua`.
--
-- KEYS[9] job:{id}:status string
-- KEYS[10] user_jobs: + owner, set; not used in a cluster, where an owner's index has its own slot
-- KEYS[11] job:{id}:tasks hash                                  KEYS[12] i2m:task: + Celery task id
-- KEYS[13] i2m:active sorted set    KEYS[14] i2m:outbox sorted set    KEYS[15] i2m:cancelling sorted set
-- KEYS[16] i2m:webhooks sorted set  KEYS[17] i2m:webhook: + job id:attempt hash, and + :log list
-- KEYS[18] i2m:reindex sorted set, in a cluster
--
-- job:{id}:tasks maps a Celery task id to 'queue key\nmessage'. i2m:task:{task_id} is 'job_id attempt file_id', with
-- an empty file_id for a task that has the whole job. Members and scores (Unix ms) of the sorted sets:
-- i2m:active: task ids by their last heartbeat         i2m:outbox: task ids that were not sent to the broker yet
-- i2m:cancelling: job ids by the end of their grace    i2m:reindex: job ids whose owner index needs a TTL refresh

local STATUS, OWNER_INDEX, TASKS, TASK_PREFIX = KEYS[9], is_numbered and KEYS[10], KEYS[11], KEYS[12]
local ACTIVE, OUTBOX, CANCELLING = KEYS[13], KEYS[14], KEYS[15]
local WEBHOOKS, WEBHOOK_PREFIX, REINDEX = KEYS[16], KEYS[17], KEYS[18]
local ttl, stream_maxlen = ARGV[3], ARGV[4]

local now, now_ms = read_clock()

-- Events of this run for the metrics, one a line: 'started {created_at} {now}', 'ended {started_at} {now} {status}'.
-- An unknown timestamp is '-'.
local lifecycle_events = ''

local function save_states(...)
  select_db(JOBS_DB)
  -- An existing hash has a TTL, which `refresh_ttls` refreshes.
  if redis.call('HSET', STATES, ...) > 0 then redis.call('EXPIRE', STATES, ttl) end
end

local function encode_state(state)
  return state.status .. ':' .. state.attempt .. ':' .. state.note
end

local function save_state(file_id, state)
  save_states(file_id, encode_state(state))
end

-- Refreshes the TTL of every key of the job, in every database. Happens once a tenth of the TTL (at most a minute)
-- has passed since the last time, so that frequent reports do not pay for it; and with `always` at the job's end,
-- when no later write would do it: the seed's tracker removes the TTL of percents that it sets.
local function refresh_ttls(job, always)
  select_db(JOBS_DB)
  local ttl_secs = tonumber(ttl)
  local is_due = redis.call('TTL', JOB) < ttl_secs - math.min(60, floor(ttl_secs / 10))
    or redis.call('TTL', FILES) <= 0
  if not (always or is_due) then return end
  for _, key in ipairs({ JOB, STATUS, FILES, SESSION, STATES, TASKS }) do redis.call('EXPIRE', key, ttl) end
  for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do redis.call('EXPIRE', TASK_PREFIX .. task_id, ttl) end
  for i = 0, job.total - 1 do redis.call('EXPIRE', RESULT_PREFIX .. file_id_at(i), ttl) end
  if OWNER_INDEX and job.owner then
    redis.call('EXPIRE', OWNER_INDEX .. job.owner, ttl)
    redis.call('EXPIRE', OWNER_INDEX .. job.owner .. ':by_time', ttl)
  elseif not OWNER_INDEX and job.owner then
    redis.call('ZADD', REINDEX, now_ms, job_id)
    redis.call('EXPIRE', REINDEX, ttl)
  end
  select_db(PROGRESS_DB)
  for i = 0, job.total - 1 do redis.call('EXPIRE', PERCENT_PREFIX .. file_id_at(i), ttl) end
  redis.call('EXPIRE', STREAM, ttl)
end

-- Invalidates the cached status and sets updated_at; `...` are further fields and values of the record.
local function save_job(...)
  select_db(CACHE_DB)
  redis.call('UNLINK', CACHED_STATUS)
  select_db(JOBS_DB)
  redis.call('HSET', JOB, 'updated_at', now, ...)
end

local function set_status(status)
  select_db(JOBS_DB)
  redis.call('SET', STATUS, status, 'EX', ttl)
  redis.call('HSET', JOB, 'status', status)
end

local is_stream_ttl_set = false

-- Adds an entry to the progress stream and returns its id. The first three fields are the seed's.
local function add_entry(file_id, percent, ...)
  select_db(PROGRESS_DB)
  local id = redis.call('XADD', STREAM, 'MAXLEN', '~', stream_maxlen, '*',
    'file_id', file_id, 'progress', percent, 'timestamp', now, ...)
  -- In every run, because another program may have created the stream without a TTL.
  if not is_stream_ttl_set then redis.call('EXPIRE', STREAM, ttl) end
  is_stream_ttl_set = true
  return id
end

-- Publishes on the seed's channel job:{id}:events, which also wakes the event hubs.
local function publish_job_event(event_type, data)
  redis.call('PUBLISH', 'job:' .. job_id .. ':events',
    cjson.encode({ type = event_type, job_id = job_id, timestamp = now, data = data }))
end

-- Publishes on the seed's channel progress:{id}, which also wakes the event hubs.
local function publish_progress(file_id, percent, message)
  redis.call('PUBLISH', 'progress:' .. job_id, cjson.encode({
    type = 'progress', job_id = job_id, file_id = file_id, progress = percent, timestamp = now, message = message,
  }))
end

local function mark_processing(job)
  if job.status ~= 'pending' then return end
  job.status = 'processing'
  set_status('processing')
  redis.call('HSETNX', JOB, 'started_at', now)
  job.started_at = job.started_at or now
  lifecycle_events = 'started ' .. (job.attempt == 1 and job.created_at or '-') .. ' ' .. now .. '\n'
  publish_job_event('job_processing', { status = 'processing' })
end

-- Files that are still open when their job ends get its final status, so that the counters match the files.
local function finish_open_files(job, states, final_status)
  -- These two statuses exist only for jobs.
  if final_status == 'partial' or final_status == 'expired' then final_status = 'failed' end
  for i = 0, job.total - 1 do
    local file_id = file_id_at(i)
    local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
    if not TERMINAL[state.status] and job.completed + job.failed < job.total then
      state.status = final_status
      save_state(file_id, state)
      states[file_id] = state
      if final_status == 'completed' then job.completed = job.completed + 1 end
      if final_status == 'failed' then job.failed = job.failed + 1 end
    end
  end
end

-- Adds Celery tasks of the job to the outbox. ARGV[first..] has three arguments a task: task id, file id or '', and
-- 'queue key\nmessage'.
local function add_tasks(first, attempt)
  select_db(JOBS_DB)
  for i = first, #ARGV, 3 do
    redis.call('HSET', TASKS, ARGV[i], ARGV[i + 2])
    redis.call('SET', TASK_PREFIX .. ARGV[i], job_id .. ' ' .. attempt .. ' ' .. ARGV[i + 1], 'EX', ttl)
    redis.call('ZADD', ACTIVE, now_ms, ARGV[i])
    redis.call('ZADD', OUTBOX, now_ms, ARGV[i])
  end
  if first <= #ARGV then
    for _, key in ipairs({ TASKS, ACTIVE, OUTBOX }) do redis.call('EXPIRE', key, ttl) end
  end
end

-- Stops monitoring the job's tasks, sending the unsent ones, and waiting for its cancellation.
local function clear_tasks()
  select_db(JOBS_DB)
  for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do
    redis.call('ZREM', ACTIVE, task_id)
    redis.call('ZREM', OUTBOX, task_id)
  end
  redis.call('ZREM', CANCELLING, job_id)
end

-- Queues the webhook that the job asks for at its end. The payload is final, because a retry changes the job.
-- i2m:webhooks has 'job id:attempt' by the time of the next try (Unix ms), i2m:webhook:{job id:attempt} the payload
-- and the delivery state.
local function queue_webhook(job, status, err)
  if not job.webhook_url then return end
  local webhook_id = job_id .. ':' .. job.attempt
  local data = { job_id = job_id, status = status, attempt = job.attempt, total_files = job.total,
    completed_files = job.completed, failed_files = job.failed, error = err ~= '' and err or nil }
  local payload = cjson.encode({ type = 'job.' .. status, timestamp = now .. 'Z', data = data })
  redis.call('HSET', WEBHOOK_PREFIX .. webhook_id, 'url', job.webhook_url, 'type', 'job.' .. status,
    'payload', payload, 'state', 'pending', 'tries', 0, 'created_at', now)
  redis.call('EXPIRE', WEBHOOK_PREFIX .. webhook_id, ttl)
  redis.call('ZADD', WEBHOOKS, now_ms, webhook_id)
  redis.call('EXPIRE', WEBHOOKS, ttl)
end

local function delete_webhooks(job)
  for attempt = 1, job.attempt do
    local webhook_id = job_id .. ':' .. attempt
    redis.call('ZREM', WEBHOOKS, webhook_id)
    redis.call('UNLINK', WEBHOOK_PREFIX .. webhook_id, WEBHOOK_PREFIX .. webhook_id .. ':log')
  end
end

-- Ends the job: record, open files, and the terminal entries that close every stream. `err` may be ''.
-- One or more failed files make a 'completed' job 'partial', and all of them make it 'failed'.
local function end_job(job, states, status, err)
  finish_open_files(job, states, status)
  if status == 'completed' or status == 'partial' then
    status = job.failed == 0 and 'completed' or (job.failed >= job.total and 'failed' or 'partial')
  end
  if status == 'failed' and err == '' then err = job.failed >= job.total and 'every file failed' or 'the job failed' end
  if status == 'cancelled' then err = 'the job was cancelled' end
  if status == 'expired' and err == '' then err = 'the job expired' end
  set_status(status)
  clear_tasks()
  local has_results = status == 'completed' or status == 'partial'
  local counts = { 'status', status, 'overall', '100',
    'completed', job.completed, 'failed', job.failed, 'total', job.total }
  if status == 'cancelled' then add_entry('', 100, 'event', 'task_cancelled', unpack(counts)) end
  if not has_results then counts[#counts + 1] = 'error'; counts[#counts + 1] = err end
  local id = add_entry('', 100, 'event', has_results and 'task_completed' or 'task_failed', unpack(counts))
  save_job('ended_at', now, 'terminal_id', id, 'overall', has_results and 100 or job.overall, 'error', err,
    'completed_files', job.completed, 'failed_files', job.failed)
  publish_job_event('job_' .. status, {
    status = status, total_files = job.total, completed_files = job.completed, failed_files = job.failed,
  })
  queue_webhook(job, status, err)
  job.status = status
  lifecycle_events = lifecycle_events .. 'ended ' .. (job.started_at or '-') .. ' ' .. now .. ' ' .. status .. '\n'
  refresh_ttls(job, true)
end
