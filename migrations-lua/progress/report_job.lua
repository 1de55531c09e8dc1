-- Records progress of a whole job, from a worker that does not report single files.
-- ARGV[5] percent   ARGV[6] message: '' for none, or 'm' + text
-- Returns {'recorded', 0 or 1, lifecycle events} | {'missing'} | {'refused', status}
local job = load_job()
if not job then return { 'missing' } end
if TERMINAL[job.status] or job.status == 'cancelling' then return { 'refused', job.status } end
local percent, message = math.max(job.overall, tonumber(ARGV[5])), nil
if ARGV[6] ~= '' then message = string.sub(ARGV[6], 2) end
local previous_message = redis.call('HGET', JOB, 'message') or ''
if job.status == 'processing' and percent == job.overall and (message or '') == previous_message then
  refresh_ttls(job)
  return { 'recorded', 0 }
end
mark_processing(job)
save_job('overall', percent, 'message', message or '')
local fields = { 'event', 'task_progress', 'status', 'processing', 'overall', percent,
  'completed', job.completed, 'failed', job.failed, 'total', job.total }
if message then fields[#fields + 1] = 'message'; fields[#fields + 1] = message end
add_entry('', percent, unpack(fields))
publish_progress('', percent, message)
refresh_ttls(job)
return { 'recorded', 1, lifecycle_events }
