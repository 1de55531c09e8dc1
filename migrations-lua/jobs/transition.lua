-- Sets a job to a new status, if its current status allows it.
-- ARGV[5] new status   ARGV[6] error text or ''   ARGV[7..] statuses that the new one may follow
-- Returns {'moved', new status, lifecycle events} | {'refused', current status} | {'missing'}
-- A request for the current status changes nothing and returns 'moved', because the same request may come twice.
local job = load_job()
if not job then return { 'missing' } end
local requested, err = ARGV[5], ARGV[6]
if job.status == requested then return { 'moved', requested } end
-- Completing a job with failed files makes it partial.
if requested == 'completed' and job.status == 'partial' then return { 'moved', job.status } end
local allowed = false
for i = 7, #ARGV do allowed = allowed or ARGV[i] == job.status end
if not allowed then return { 'refused', job.status } end

if TERMINAL[requested] then
  end_job(job, load_states(), requested, err)
elseif requested == 'processing' then
  mark_processing(job)
  save_job()
  add_entry('', job.overall, 'event', 'task_progress', 'status', 'processing', 'overall', job.overall,
    'completed', job.completed, 'failed', job.failed, 'total', job.total)
else
  job.status = requested
  set_status(requested)
  save_job()
  publish_job_event('job_' .. requested, { status = requested })
end
refresh_ttls(job)
return { 'moved', job.status, lifecycle_events }
