-- Reads the webhooks of a job, newest attempt of the job first.
-- ARGV[5] limit
-- Returns {'webhooks', {{attempt, {field, value, ...}, {JSON, ...}, next try in Unix ms or false}, ...}} | {'missing'}
local job = load_job()
if not job then return { 'missing' } end
local found = {}
for attempt = job.attempt, math.max(1, job.attempt - ARGV[5] + 1), -1 do
  local webhook_id = job_id .. ':' .. attempt
  local fields = redis.call('HGETALL', WEBHOOK_PREFIX .. webhook_id)
  if #fields > 0 then
    local log = redis.call('LRANGE', WEBHOOK_PREFIX .. webhook_id .. ':log', 0, -1)
    found[#found + 1] = { attempt, fields, log, redis.call('ZSCORE', WEBHOOKS, webhook_id) }
  end
end
return { 'webhooks', found }
