-- Creates a job: record, status, file list, session, owner's set, and the progress of each file.
-- KEYS[19] i2m:idempotency:{owner}:{hash of the key}, or absent; in a cluster, where that has a slot of its own, only
-- noted here (see jobs/reserve.lua)
-- ARGV[5] owner (API key hash)   ARGV[6] params, a JSON object or ''   ARGV[7] fingerprint of the request, with a key
-- ARGV[8] webhook URL or ''   ARGV[9] number of files, then one JSON object a file, then three arguments a Celery
-- task (see add_tasks)
-- Returns {'created', created_at} | {'exists', status of the present job}
--   | {'replay', job id}: the same request came before   | {'conflict'}: another one came with its key
if redis.call('EXISTS', JOB) == 1 then return { 'exists', redis.call('HGET', JOB, 'status') } end

local IDEMPOTENCY = KEYS[19]
local owner, params, fingerprint, webhook_url, total = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
if IDEMPOTENCY and numbered then
  local seen_print, seen_job = string.match(redis.call('GET', IDEMPOTENCY) or '', '^(%S+) (%S+)$')
  -- Of a job that is gone, the key is free again.
  if seen_job and redis.call('EXISTS', 'job:' .. seen_job) == 1 then
    if seen_print == fingerprint then return { 'replay', seen_job } end
    return { 'conflict' }
  end
end

-- First what may fail on data of a wrong type: a script is not rolled back.
if OWNED then
  redis.call('SADD', OWNED .. owner, job_id)
  redis.call('EXPIRE', OWNED .. owner, ttl)
  redis.call('ZADD', OWNED .. owner .. ':by_time', now_ms, job_id)
  redis.call('EXPIRE', OWNED .. owner .. ':by_time', ttl)
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
if IDEMPOTENCY and numbered then redis.call('SET', IDEMPOTENCY, fingerprint .. ' ' .. job_id, 'EX', ttl) end
add_tasks(10 + total, 1)

use(PROGRESS_DB)
for i = 0, total - 1 do redis.call('SET', PERCENT .. file_name(i), '0', 'EX', ttl) end
add_entry('', '0', 'event', 'task_queued', 'status', 'pending', 'overall', '0', 'completed', '0', 'failed', '0',
  'total', ARGV[9])
publish_job_event('job_created', { status = 'pending', total_files = total })
return { 'created', now }
