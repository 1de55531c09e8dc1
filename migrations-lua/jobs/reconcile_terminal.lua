-- Completes an end that another program wrote into the record only, as the seed's update_job_status does:
-- the terminal entries, the status string, the TTLs.
-- Returns {'settled', status, milestones} | {'open', status} | {'missing'}
local job = load_job()
if not job then return { 'missing' } end
if not ENDED[job.status] then return { 'open', job.status } end
if not job.ended_at then
  end_job(job, load_states(), job.status, '')
  renew(job)
end
return { 'settled', job.status, milestones }
