-- What every script about one job stands on: where its data is, and how it is read. `shared/lifecycle.lua` follows for
-- scripts that change a job; what only reads does without it, since Redis makes all these functions anew for each run.
--
-- A job lives in several databases (1 jobs, 2 progress, 4 cache). A script may SELECT, and its writes are
-- then atomic over all of them; the caller's own database is not changed by it (Redis, EVAL). In a cluster
-- there is one database and every key of a job has one hash tag, so nothing is selected.
--
-- KEYS[1] job:{id} hash            KEYS[2] job:{id}:files list        KEYS[3] job:{id}:file: + file_id, result strings
-- KEYS[4] session:{id} string      KEYS[5] progress:{id}: + file_id, percent strings (db 2)
-- KEYS[6] stream:progress:{id} (db 2)   KEYS[7] job:{id}:states hash   KEYS[8] cache:status:{id} string (db 4)
-- ARGV[1] 'numbered' | 'single' databases    ARGV[2] job id    ARGV[3] TTL in seconds
-- ARGV[4] entries that the stream keeps      ARGV[5..] the script's own
--
-- job:{id}:states maps file_id to 'status:attempt:note', the note being the last message or the error; a file
-- without a field is 'pending:1:'.

local JOB, FILES, RESULT, SESSION = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PERCENT, STREAM, STATES, CACHED = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local numbered, job_id = ARGV[1] == 'numbered', ARGV[2]

-- Text, as all that Redis is told over and over: it prints numbers of Lua as floating point, at some cost.
local JOBS_DB, PROGRESS_DB, CACHE_DB = '1', '2', '4'
local FINISHED = { completed = true, failed = true, cancelled = true }

local floor = math.floor

-- Scripts about a job are called in the jobs database.
local selected = JOBS_DB

local function use(database)
  if numbered and database ~= selected then
    redis.call('SELECT', database)
    selected = database
  end
end

local file_names = {}

local function file_name(index)
  local name = file_names[index]
  if not name then
    name = string.format('file_%03d', index)
    file_names[index] = name
  end
  return name
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

local function load_percents(total)
  if total == 0 then return {} end
  local keys = {}
  for i = 1, total do keys[i] = PERCENT .. file_name(i - 1) end
  use(PROGRESS_DB)
  return redis.call('MGET', unpack(keys))
end

-- Percent of the whole job: a finished file counts 100. It never falls within a run of the job.
local function overall_percent(job, states, percents)
  local sum = 0
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
