-- Common part of all scripts about one job: its keys, the database that each is in, and how a job is read. Scripts
-- that change a job also include `shared/lifecycle.lua`. Scripts that only read one do not, because Redis creates
-- every function again for each run.
--
-- A job has keys in several databases (1 jobs, 2 progress, 4 cache). A script may SELECT another database, and its
-- writes are atomic over all of them; the caller's selected database does not change (Redis, EVAL). A cluster has one
-- database, and all keys of a job have the same hash tag, so nothing is selected there.
--
-- KEYS[1] job:{id} hash            KEYS[2] job:{id}:files list        KEYS[3] job:{id}:file: + file_id, result strings
-- KEYS[4] session:{id} string      KEYS[5] progress:{id}: + file_id, percent strings (db 2)
-- KEYS[6] stream:progress:{id} (db 2)   KEYS[7] job:{id}:states hash   KEYS[8] cache:status:{id} string (db 4)
-- ARGV[1] layout: 'numbered' databases | 'cluster'   ARGV[2] job id    ARGV[3] TTL in seconds
-- ARGV[4] maximum length of the stream               ARGV[5..] arguments of the script
--
-- job:{id}:states maps a file_id to 'status:attempt:note'. The note is the last message or the error. A file without
-- a field is 'pending:1:'.

local JOB, FILES, RESULT_PREFIX, SESSION = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PERCENT_PREFIX, STREAM, STATES, CACHED_STATUS = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local is_numbered, job_id = ARGV[1] == 'numbered', ARGV[2]

-- Strings, like all arguments that are sent often: Redis formats a Lua number as floating point, which is slow.
local JOBS_DB, PROGRESS_DB, CACHE_DB = '1', '2', '4'

-- The statuses that nothing follows, of jobs and of files. A test compares them with src/jobs/status.rs.
local TERMINAL = { completed = true, partial = true, failed = true, cancelled = true, expired = true }

local floor = math.floor

-- Scripts about a job are called in the jobs database.
local selected_db = JOBS_DB

local function select_db(database)
  if is_numbered and database ~= selected_db then
    redis.call('SELECT', database)
    selected_db = database
  end
end

local file_ids = {}

local function file_id_at(index)
  local file_id = file_ids[index]
  if not file_id then
    file_id = string.format('file_%03d', index)
    file_ids[index] = file_id
  end
  return file_id
end

-- The time of Redis as a timestamp in the seed's format (naive UTC, always with microseconds) and as Unix ms.
-- Civil date from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
-- `shared/parse_timestamp.lua` is the inverse.
local function read_clock()
  local time = redis.call('TIME')
  local seconds = tonumber(time[1])
  local days = floor(seconds / 86400) + 719468
  local era = floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era =
    floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524) - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + floor(year_of_era / 4) - floor(year_of_era / 100))
  local shifted_month = floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - floor((153 * shifted_month + 2) / 5) + 1
  local month = shifted_month < 10 and shifted_month + 3 or shifted_month - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  local second_of_day = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06d', year, month, day,
    floor(second_of_day / 3600), floor(second_of_day % 3600 / 60), second_of_day % 60, tonumber(time[2])),
    seconds * 1000 + floor(tonumber(time[2]) / 1000)
end

-- The job's record as numbers and strings, or nil. A hash without total_files is not a job: the seed's
-- update_job_status creates such a hash for an expired job.
local function load_job()
  select_db(JOBS_DB)
  local fields = redis.call('HMGET', JOB, 'total_files', 'completed_files', 'failed_files', 'status', 'overall',
    'ended_at', 'api_key_hash', 'attempt', 'created_at', 'started_at', 'webhook_url')
  local total = tonumber(fields[1])
  if not total then return nil end
  return {
    total = total, completed = tonumber(fields[2]) or 0, failed = tonumber(fields[3]) or 0,
    status = fields[4] or 'pending', overall = tonumber(fields[5]) or 0, ended_at = fields[6], owner = fields[7],
    attempt = tonumber(fields[8]) or 1, created_at = fields[9], started_at = fields[10], webhook_url = fields[11],
  }
end

local function load_states()
  select_db(JOBS_DB)
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
  for i = 1, total do keys[i] = PERCENT_PREFIX .. file_id_at(i - 1) end
  select_db(PROGRESS_DB)
  return redis.call('MGET', unpack(keys))
end

-- Percent of the whole job: a finished file counts 100. Within an attempt of the job it never decreases.
local function overall_percent(job, states, percents)
  local sum = 0
  for i = 1, job.total do
    local state = states[file_id_at(i - 1)]
    if state and TERMINAL[state.status] then
      sum = sum + 100
    else
      sum = sum + math.min(100, math.max(0, tonumber(percents[i]) or 0))
    end
  end
  return math.max(job.overall, job.total > 0 and floor(sum / job.total) or 0)
end
