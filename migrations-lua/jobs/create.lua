-- Creates a job: record, status, file list, session, owner index, and the progress of each file.
-- KEYS[19] i2m:idempotency:{owner}:{hash of the key}, or absent; in a cluster, where it has its own slot, only its name
-- is stored in the record (see jobs/idempotency_reserve.lua)
-- ARGV[5] owner (API key hash)   ARGV[6] params, a JSON object or ''   ARGV[7] hash of the request, if it has a key
-- ARGV[8] webhook URL or ''   ARGV[9] number of files, then one JSON object a file, then three arguments a Celery
-- task (see add_tasks)
-- Returns {'created', created_at} | {'exists', status of the existing job}
--   | {'replay', job id}: the same request was made before with this key
--   | {'conflict'}: another request was made with this key
if redis.call('EXISTS', JOB) == 1 then return { 'exists', redis.call('HGET', JOB, 'status') } end

local IDEMPOTENCY = KEYS[19]
local owner, params, request_hash, webhook_url, total = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
if IDEMPOTENCY and is_numbered then
  local known_hash, known_job = string.match(redis.call('GET', IDEMPOTENCY) or '', '^(%S+) (%S+)$')
  -- The key of a job that no longer exists can be used again.
  if known_job and redis.call('EXISTS', 'job:' .. known_job) == 1 then
    if known_hash == request_hash then return { 'replay', known_job } end
    return { 'conflict' }
  end
end

-- Commands that fail on a key of the wrong type come first, because a script is not rolled back.
if OWNER_INDEX then
  redis.call('SADD', OWNER_INDEX .. owner, job_id)
  redis.call('EXPIRE', OWNER_INDEX .. owner, ttl)
  redis.call('ZADD', OWNER_INDEX .. owner .. ':by_time', now_ms, job_id)
  redis.call('EXPIRE', OWNER_INDEX .. owner .. ':by_time', ttl)
end
local record = { 'job_id', job_id, 'api_key_hash', owner, 'status', 'pending', 'total_files', ARGV[9],
  'completed_files', '0', 'failed_files', '0', 'created_at', now, 'updated_at', now, 'attempt', '1' }
local function add(field, value)
  if value and value ~= '' then record[#record + 1] = field; record[#record + 1] = value end
end
add('params', params)
add('webhook_url', webhook_url)
add('idempotency', IDEMPOTENCY)
redis.call('HSET', JOB, unpack(record))
redis.call('EXPIRE', JOB, ttl)
redis.call('SET', STATUS, 'pending', 'EX', ttl)
redis.call('RPUSH', FILES, unpack(ARGV, 10, 9 + total))
redis.call('EXPIRE', FILES, ttl)
redis.call('SET', SESSION, owner, 'EX', ttl)
if IDEMPOTENCY and is_numbered then redis.call('SET', IDEMPOTENCY, request_hash .. ' ' .. job_id, 'EX', ttl) end
add_tasks(10 + total, 1)

select_db(PROGRESS_DB)
for i = 0, total - 1 do redis.call('SET', PERCENT_PREFIX .. file_id_at(i), '0', 'EX', ttl) end
add_entry('', '0', 'event', 'task_queued', 'status', 'pending', 'overall', '0', 'completed', '0', 'failed', '0',
  'total', ARGV[9])
publish_job_event('job_created', { status = 'pending', total_files = total })
return { 'created', now }
