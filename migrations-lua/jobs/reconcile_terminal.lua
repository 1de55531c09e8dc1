-- Completes a terminal status that another program set only in the record, as the seed's update_job_status does:
-- terminal stream entries, status string, TTLs.
-- Returns {'terminal', status, lifecycle events} | {'not_terminal', status} | {'missing'}
local job = load_job()
if not job then return { 'missing' } end
if not TERMINAL[job.status] then return { 'not_terminal', job.status } end
if not job.ended_at then
  end_job(job, load_states(), job.status, '')
  refresh_ttls(job)
end
return { 'terminal', job.status, lifecycle_events }
