-- Moves a job to a new status, if its present one allows it.
-- ARGV[5] new status   ARGV[6] error text or ''   ARGV[7..] statuses it may come from
-- Returns {'moved', new status, milestones} | {'refused', present status} | {'missing'}
-- Asking for the present status changes nothing and is 'moved': the same request may come twice.
local job = load_job()
if not job then return { 'missing' } end
local wanted, err = ARGV[5], ARGV[6]
if job.status == wanted then return { 'moved', wanted } end
-- What a job with failed files became when it was completed.
if wanted == 'completed' and job.status == 'partial' then return { 'moved', job.status } end
local allowed = false
for i = 7, #ARGV do allowed = allowed or ARGV[i] == job.status end
if not allowed then return { 'refused', job.status } end

if ENDED[wanted] then
  end_job(job, load_states(), wanted, err)
elseif wanted == 'processing' then
  begin_work(job)
  save_job()
  add_entry('', job.overall, 'event', 'task_progress', 'status', 'processing', 'overall', job.overall,
    'completed', job.completed, 'failed', job.failed, 'total', job.total)
else
  job.status = wanted
  set_status(wanted)
  save_job()
  publish_job_event('job_' .. wanted, { status = wanted })
end
renew(job)
return { 'moved', job.status, milestones }
