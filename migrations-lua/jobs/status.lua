-- The status document of a job, from the cache or computed and cached. One step, so that no change can happen between
-- reading the record and caching the document.
-- ARGV[5] TTL of the cached document in seconds
-- Returns {'hit' | 'miss', status JSON, {owner}} | {'missing'}
local owner = { redis.call('GET', SESSION) }
select_db(CACHE_DB)
local cached = redis.call('GET', CACHED_STATUS)
-- A value in another format was written by another program and counts as a miss.
if cached and string.sub(cached, 1, 10) == '{"job_id":' then return { 'hit', cached, owner } end

local job = load_job()
if not job then return { 'missing' } end
local updated = redis.call('HGET', JOB, 'updated_at') or read_clock()
local percent = overall_percent(job, load_states(), load_percents(job.total))
if job.status == 'completed' or job.status == 'partial' then percent = 100 end
local json = string.format(
  '{"job_id":%s,"status":%s,"progress":%d,"total_files":%d,"completed_files":%d,"failed_files":%d,"updated_at":%s}',
  cjson.encode(job_id), cjson.encode(job.status), percent, job.total, job.completed, job.failed,
  cjson.encode(updated .. (string.match(updated, '[Z+]') and '' or 'Z')))
select_db(CACHE_DB)
redis.call('SET', CACHED_STATUS, json, 'EX', ARGV[5])
return { 'miss', json, owner }
