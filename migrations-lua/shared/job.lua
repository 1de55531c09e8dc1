-- What every script about one job stands on; compiled in front of jobs/*.lua and progress/*.lua.
--
-- A job lives in several databases (1 jobs, 2 progress, 4 cache). A script may SELECT, and its writes are
-- then atomic over all of them; the caller's own database is not changed by it (Redis, EVAL). In a cluster
-- there is one database and every key of a job has one hash tag, so nothing is selected.
--
-- KEYS[1] job:{id} hash        KEYS[2] job:{id}:status string   KEYS[3] job:{id}:files list
-- KEYS[4] job:{id}:file: + file_id, result strings              KEYS[5] session:{id} string
-- KEYS[6] progress:{id}: + file_id, percent strings (db 2)      KEYS[7] stream:progress:{id} (db 2)
-- KEYS[8] cache:status:{id} (db 4)                              KEYS[9] job:{id}:states hash
-- KEYS[10] user_jobs: + owner, set; not used in a cluster, where an owner's set has a slot of its own
-- KEYS[11] job:{id}:tasks hash                                  KEYS[12] i2m:task: + Celery task id
-- KEYS[13] i2m:active sorted set    KEYS[14] i2m:outbox sorted set    KEYS[15] i2m:cancelling sorted set
-- KEYS[16] i2m:webhooks sorted set  KEYS[17] i2m:webhook: + job id:attempt hash, and + :log list
-- KEYS[18] i2m:listing sorted set, in a cluster
-- ARGV[1] 'numbered' | 'single' databases    ARGV[2] job id    ARGV[3] TTL in seconds
-- ARGV[4] entries that the stream keeps      ARGV[5..] the script's own
--
-- job:{id}:states maps file_id to 'status:attempt:note', the note being the last message or the error; a file
-- without a field is 'pending:1:'.
-- job:{id}:tasks maps a Celery task id to 'queue key\nmessage'; i2m:task:{task_id} is 'job_id attempt file_id',
-- the last empty for a task that has the whole job. i2m:active has the task ids by their last sign of life,
-- i2m:outbox those not handed to the broker yet, i2m:cancelling job ids by when waiting for workers ends,
-- i2m:listing those whose place in their owner's list has to be renewed.

local JOB, STATUS, FILES, RESULT, SESSION = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local PERCENT, STREAM, CACHED, STATES = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local TASKS, TASK, ACTIVE, OUTBOX, CANCELLING = KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local WEBHOOKS, WEBHOOK, LISTING = KEYS[16], KEYS[17], KEYS[18]
local numbered, job_id, ttl, keep = ARGV[1] == 'numbered', ARGV[2], tonumber(ARGV[3]), ARGV[4]
local OWNED = numbered and KEYS[10]

local JOBS_DB, PROGRESS_DB, CACHE_DB = 1, 2, 4
local FINISHED = { completed = true, failed = true, cancelled = true }
local ENDED = { completed = true, partial = true, failed = true, cancelled = true, expired = true }

local floor = math.floor

local function use(database)
  if numbered then redis.call('SELECT', database) end
end

-- The shared clock as the seed writes it: naive UTC, the fraction always there. Days to a civil date after
-- Howard Hinnant, "chrono-compatible low-level date algorithms".
local function read_clock()
  local time = redis.call('TIME')
  local seconds = tonumber(time[1])
  local z = floor(seconds / 86400) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06d', year, month, day,
    floor(rest / 3600), floor(rest % 3600 / 60), rest % 60, tonumber(time[2])),
    seconds * 1000 + floor(tonumber(time[2]) / 1000)
end

local now, now_ms = read_clock()

-- What began and ended in this script, for metrics; a line each: 'began {since} {now}', 'ended {since} {now} {status}',
-- of which {since} is the job's creation and the begin of its work, or '-' where that is not known.
local milestones = ''

local function file_name(index)
  return string.format('file_%03d', index)
end

-- The job's record as numbers and strings, or nil. A hash without total_files is no job: the seed's
-- update_job_status makes such a ghost out of an expired one.
local function load_job()
  use(JOBS_DB)
  local v = redis.call('HMGET', JOB, 'total_files', 'completed_files', 'failed_files', 'status', 'overall',
    'ended_at', 'api_key_hash', 'attempt', 'created_at', 'started_at', 'webhook_url')
  local total = tonumber(v[1])
  if not total then return nil end
  return {
    total = total, completed = tonumber(v[2]) or 0, failed = tonumber(v[3]) or 0,
    status = v[4] or 'pending', overall = tonumber(v[5]) or 0, ended_at = v[6], owner = v[7],
    attempt = tonumber(v[8]) or 1, created_at = v[9], started_at = v[10], webhook_url = v[11],
  }
end

local function load_states()
  use(JOBS_DB)
  local states = {}
  local flat = redis.call('HGETALL', STATES)
  for i = 1, #flat, 2 do
    local status, attempt, note = string.match(flat[i + 1], '^(%a+):(%d+):(.*)$')
    states[flat[i]] = { status = status, attempt = tonumber(attempt), note = note }
  end
  return states
end

local function save_state(file_id, state)
  use(JOBS_DB)
  redis.call('HSET', STATES, file_id, state.status .. ':' .. state.attempt .. ':' .. state.note)
  redis.call('EXPIRE', STATES, ttl)
end

local function load_percents(total)
  if total == 0 then return {} end
  local keys = {}
  for i = 1, total do keys[i] = PERCENT .. file_name(i - 1) end
  use(PROGRESS_DB)
  return redis.call('MGET', unpack(keys))
end

-- Percent of the whole job: a finished file counts 100. It never falls within a run of the job.
local function overall_percent(job, states)
  local percents, sum = load_percents(job.total), 0
  for i = 1, job.total do
    local state = states[file_name(i - 1)]
    if state and FINISHED[state.status] then
      sum = sum + 100
    else
      sum = sum + math.min(100, math.max(0, tonumber(percents[i]) or 0))
    end
  end
  return math.max(job.overall, job.total > 0 and floor(sum / job.total) or 0)
end

-- Renews every key of the job together, in every database. Done when a tenth of the TTL, at most a
-- minute, has passed since the last time, so that a stream of reports does not pay for it each time; and always
-- at the job's end, which no write may follow: the seed's tracker takes the TTL off the percents it sets.
local function renew(job, always)
  use(JOBS_DB)
  if not always and redis.call('TTL', JOB) >= ttl - math.min(60, floor(ttl / 10)) and redis.call('TTL', FILES) > 0 then return end
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

-- Adds an entry to the progress stream and returns its id. The first three fields are the seed's.
local function add_entry(file_id, percent, ...)
  use(PROGRESS_DB)
  local id = redis.call('XADD', STREAM, 'MAXLEN', '~', keep, '*',
    'file_id', file_id, 'progress', percent, 'timestamp', now, ...)
  redis.call('EXPIRE', STREAM, ttl)
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

