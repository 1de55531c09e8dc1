-- Stores the result of a file, counts it once, and ends the job with its last file.
-- ARGV[5] file_id   ARGV[6] 'completed' | 'failed'   ARGV[7] attempt ('0': the present one)
-- ARGV[8] result JSON   ARGV[9] error text or ''
-- Returns {'stored', job status, milestones} | {'duplicate', job status} | {'stale', file's attempt}
--   | {'missing'} | {'refused', job status} | {'unknown_file', file_id}
local job = load_job()
if not job then return { 'missing' } end
local file_id, status, attempt, err = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[9]
if tonumber(string.match(file_id, '^file_(%d+)$')) >= job.total then return { 'unknown_file', file_id } end

local states = load_states()
local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
if attempt == 0 then attempt = state.attempt end
if attempt < state.attempt then return { 'stale', state.attempt } end
if state.status == 'completed' or state.status == 'failed' then return { 'duplicate', job.status } end
if ENDED[job.status] then return { 'refused', job.status } end

states[file_id] = { status = status, attempt = attempt, note = err }
save_state(file_id, states[file_id])
redis.call('SET', RESULT .. file_id, ARGV[8], 'EX', ttl)
if status == 'completed' then
  job.completed = math.min(job.total - job.failed, job.completed + 1)
else
  job.failed = math.min(job.total - job.completed, job.failed + 1)
end

use(PROGRESS_DB)
local percent = 100
if status == 'failed' then percent = tonumber(redis.call('GET', PERCENT .. file_id)) or 0 end
redis.call('SET', PERCENT .. file_id, percent, 'EX', ttl)
begin_work(job)
job.overall = overall_percent(job, states, load_percents(job.total))
save_job('overall', job.overall, 'completed_files', job.completed, 'failed_files', job.failed)
local fields = { 'status', status, 'attempt', attempt, 'overall', job.overall,
  'completed', job.completed, 'failed', job.failed, 'total', job.total }
if err ~= '' then fields[#fields + 1] = 'error'; fields[#fields + 1] = err end
add_entry(file_id, percent, unpack(fields))
publish_progress(file_id, percent, err ~= '' and err or nil)
if job.completed + job.failed >= job.total then
  -- Work that was done in full before it could be stopped has not been cancelled, and leaves nothing to retry.
  local is_cancelled = job.status == 'cancelling' and job.completed < job.total
  end_job(job, states, is_cancelled and 'cancelled' or 'completed', '')
end
renew(job)
return { 'stored', job.status, milestones }
