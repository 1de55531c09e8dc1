-- How a job changes: the clock, each step of its life, what is said of it, and how long its keys live. It follows
-- `shared/job.lua`.
--
-- KEYS[9] job:{id}:status string
-- KEYS[10] user_jobs: + owner, set; not used in a cluster, where an owner's set has a slot of its own
-- KEYS[11] job:{id}:tasks hash                                  KEYS[12] i2m:task: + Celery task id
-- KEYS[13] i2m:active sorted set    KEYS[14] i2m:outbox sorted set    KEYS[15] i2m:cancelling sorted set
-- KEYS[16] i2m:webhooks sorted set  KEYS[17] i2m:webhook: + job id:attempt hash, and + :log list
-- KEYS[18] i2m:listing sorted set, in a cluster
--
-- job:{id}:tasks maps a Celery task id to 'queue key\nmessage'; i2m:task:{task_id} is 'job_id attempt file_id',
-- the last empty for a task that has the whole job. i2m:active has the task ids by their last sign of life,
-- i2m:outbox those not handed to the broker yet, i2m:cancelling job ids by when waiting for workers ends,
-- i2m:listing those whose place in their owner's list has to be renewed.

local STATUS, OWNED, TASKS, TASK = KEYS[9], numbered and KEYS[10], KEYS[11], KEYS[12]
local ACTIVE, OUTBOX, CANCELLING = KEYS[13], KEYS[14], KEYS[15]
local WEBHOOKS, WEBHOOK, LISTING = KEYS[16], KEYS[17], KEYS[18]
local ttl, keep = ARGV[3], ARGV[4]

local ENDED = { completed = true, partial = true, failed = true, cancelled = true, expired = true }

local now, now_ms = read_clock()

-- What began and ended in this script, for metrics; a line each: 'began {since} {now}', 'ended {since} {now} {status}',
-- of which {since} is the job's creation and the begin of its work, or '-' where that is not known.
local milestones = ''

local function save_states(...)
  use(JOBS_DB)
  -- A hash that was there has its TTL, which is renewed with the job's other keys.
  if redis.call('HSET', STATES, ...) > 0 then redis.call('EXPIRE', STATES, ttl) end
end

local function stored_state(state)
  return state.status .. ':' .. state.attempt .. ':' .. state.note
end

local function save_state(file_id, state)
  save_states(file_id, stored_state(state))
end

-- Renews every key of the job together, in every database. Done when a tenth of the TTL, at most a
-- minute, has passed since the last time, so that a stream of reports does not pay for it each time; and always
-- at the job's end, which no write may follow: the seed's tracker takes the TTL off the percents it sets.
local function renew(job, always)
  use(JOBS_DB)
  local whole = tonumber(ttl)
  local is_due = redis.call('TTL', JOB) < whole - math.min(60, floor(whole / 10)) or redis.call('TTL', FILES) <= 0
  if not (always or is_due) then return end
  for _, key in ipairs({ JOB, STATUS, FILES, SESSION, STATES, TASKS }) do redis.call('EXPIRE', key, ttl) end
  for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do redis.call('EXPIRE', TASK .. task_id, ttl) end
  for i = 0, job.total - 1 do redis.call('EXPIRE', RESULT .. file_name(i), ttl) end
  if OWNED and job.owner then
    redis.call('EXPIRE', OWNED .. job.owner, ttl)
    redis.call('EXPIRE', OWNED .. job.owner .. ':by_time', ttl)
  elseif not OWNED and job.owner then
    redis.call('ZADD', LISTING, now_ms, job_id)
    redis.call('EXPIRE', LISTING, ttl)
  end
  use(PROGRESS_DB)
  for i = 0, job.total - 1 do redis.call('EXPIRE', PERCENT .. file_name(i), ttl) end
  redis.call('EXPIRE', STREAM, ttl)
end

-- Drops the cached status and notes the change in the record; `...` are further fields and values.
local function save_job(...)
  use(CACHE_DB)
  redis.call('UNLINK', CACHED)
  use(JOBS_DB)
  redis.call('HSET', JOB, 'updated_at', now, ...)
end

local function set_status(status)
  use(JOBS_DB)
  redis.call('SET', STATUS, status, 'EX', ttl)
  redis.call('HSET', JOB, 'status', status)
end

local stream_is_renewed = false

-- Adds an entry to the progress stream and returns its id. The first three fields are the seed's.
local function add_entry(file_id, percent, ...)
  use(PROGRESS_DB)
  local id = redis.call('XADD', STREAM, 'MAXLEN', '~', keep, '*',
    'file_id', file_id, 'progress', percent, 'timestamp', now, ...)
  -- Each time: another program may have made it, without a TTL.
  if not stream_is_renewed then redis.call('EXPIRE', STREAM, ttl) end
  stream_is_renewed = true
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

local function begin_work(job)
  if job.status ~= 'pending' then return end
  job.status = 'processing'
  set_status('processing')
  redis.call('HSETNX', JOB, 'started_at', now)
  job.started_at = job.started_at or now
  milestones = 'began ' .. (job.attempt == 1 and job.created_at or '-') .. ' ' .. now .. '\n'
  publish_job_event('job_processing', { status = 'processing' })
end

-- Files still open when their job ends share its fate, so that the counters say what the files say.
local function close_open_files(job, states, status)
  local fate = status == 'partial' and 'failed' or status
  for i = 0, job.total - 1 do
    local file_id = file_name(i)
    local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
    if not FINISHED[state.status] and job.completed + job.failed < job.total then
      state.status = fate == 'expired' and 'failed' or fate
      save_state(file_id, state)
      states[file_id] = state
      if state.status == 'completed' then job.completed = job.completed + 1 end
      if state.status == 'failed' then job.failed = job.failed + 1 end
    end
  end
end

-- Notes Celery tasks of the job, to be handed to the broker: three arguments a task from ARGV[first] on, which
-- are task id, file id or '', and 'queue key\nmessage'.
local function add_tasks(first, attempt)
  use(JOBS_DB)
  for i = first, #ARGV, 3 do
    redis.call('HSET', TASKS, ARGV[i], ARGV[i + 2])
    redis.call('SET', TASK .. ARGV[i], job_id .. ' ' .. attempt .. ' ' .. ARGV[i + 1], 'EX', ttl)
    redis.call('ZADD', ACTIVE, now_ms, ARGV[i])
    redis.call('ZADD', OUTBOX, now_ms, ARGV[i])
  end
  if first <= #ARGV then
    for _, key in ipairs({ TASKS, ACTIVE, OUTBOX }) do redis.call('EXPIRE', key, ttl) end
  end
end

-- Nothing more is expected of the job's tasks, and nothing more is sent.
local function forget_tasks()
  use(JOBS_DB)
  for _, task_id in ipairs(redis.call('HKEYS', TASKS)) do
    redis.call('ZREM', ACTIVE, task_id)
    redis.call('ZREM', OUTBOX, task_id)
  end
  redis.call('ZREM', CANCELLING, job_id)
end

-- Queues the webhook that the job asks for at its end. What it says is settled here: a retry changes the job.
-- i2m:webhooks has 'job id:attempt' by when it is due, i2m:webhook:{job id:attempt} what is sent, and how it went.
local function queue_webhook(job, status, err)
  if not job.webhook_url then return end
  local of = job_id .. ':' .. job.attempt
  local data = { job_id = job_id, status = status, attempt = job.attempt, total_files = job.total,
    completed_files = job.completed, failed_files = job.failed, error = err ~= '' and err or nil }
  local payload = cjson.encode({ type = 'job.' .. status, timestamp = now .. 'Z', data = data })
  redis.call('HSET', WEBHOOK .. of, 'url', job.webhook_url, 'type', 'job.' .. status, 'payload', payload,
    'state', 'pending', 'tries', 0, 'created_at', now)
  redis.call('EXPIRE', WEBHOOK .. of, ttl)
  redis.call('ZADD', WEBHOOKS, now_ms, of)
  redis.call('EXPIRE', WEBHOOKS, ttl)
end

local function forget_webhooks(job)
  for attempt = 1, job.attempt do
    local of = job_id .. ':' .. attempt
    redis.call('ZREM', WEBHOOKS, of)
    redis.call('UNLINK', WEBHOOK .. of, WEBHOOK .. of .. ':log')
  end
end

-- Ends the job: record, open files, and the terminal entries that close every stream. `err` may be ''.
-- One or more failed files make a 'completed' job 'partial', and all of them make it 'failed'.
local function end_job(job, states, status, err)
  close_open_files(job, states, status)
  if status == 'completed' or status == 'partial' then
    status = job.failed == 0 and 'completed' or (job.failed >= job.total and 'failed' or 'partial')
  end
  if status == 'failed' and err == '' then err = job.failed >= job.total and 'every file failed' or 'the job failed' end
  if status == 'cancelled' then err = 'the job was cancelled' end
  if status == 'expired' and err == '' then err = 'the job expired' end
  set_status(status)
  forget_tasks()
  local succeeded = status == 'completed' or status == 'partial'
  local counts = { 'status', status, 'overall', '100', 'completed', job.completed, 'failed', job.failed, 'total', job.total }
  if status == 'cancelled' then add_entry('', 100, 'event', 'task_cancelled', unpack(counts)) end
  if not succeeded then counts[#counts + 1] = 'error'; counts[#counts + 1] = err end
  local id = add_entry('', 100, 'event', succeeded and 'task_completed' or 'task_failed', unpack(counts))
  save_job('ended_at', now, 'terminal_id', id, 'overall', succeeded and 100 or job.overall, 'error', err,
    'completed_files', job.completed, 'failed_files', job.failed)
  publish_job_event('job_' .. status, {
    status = status, total_files = job.total, completed_files = job.completed, failed_files = job.failed,
  })
  queue_webhook(job, status, err)
  job.status = status
  milestones = milestones .. 'ended ' .. (job.started_at or '-') .. ' ' .. now .. ' ' .. status .. '\n'
  renew(job, true)
end

