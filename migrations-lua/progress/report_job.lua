-- Records progress of a job as a whole, from a worker that says nothing of files.
-- ARGV[5] percent   ARGV[6] message ('' none, 'm' + text)
-- Returns {'recorded', 0 or 1, milestones} | {'missing'} | {'refused', status}
local job = load_job()
if not job then return { 'missing' } end
if ENDED[job.status] or job.status == 'cancelling' then return { 'refused', job.status } end
local percent, message = math.max(job.overall, tonumber(ARGV[5])), nil
if ARGV[6] ~= '' then message = string.sub(ARGV[6], 2) end
local was = redis.call('HGET', JOB, 'message') or ''
if job.status == 'processing' and percent == job.overall and (message or '') == was then
  renew(job)
  return { 'recorded', 0 }
end
begin_work(job)
save_job('overall', percent, 'message', message or '')
local fields = { 'event', 'task_progress', 'status', 'processing', 'overall', percent,
  'completed', job.completed, 'failed', job.failed, 'total', job.total }
if message then fields[#fields + 1] = 'message'; fields[#fields + 1] = message end
add_entry('', percent, unpack(fields))
publish_progress('', percent, message)
renew(job)
return { 'recorded', 1, milestones }
