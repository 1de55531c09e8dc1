-- Reads the webhooks of a job, the last attempts of it first.
-- ARGV[5] how many at most
-- Returns {'webhooks', {{attempt, {field, value, …}, {JSON, …}, due in ms or false}, …}} | {'missing'}
local job = load_job()
if not job then return { 'missing' } end
local found = {}
for attempt = job.attempt, math.max(1, job.attempt - ARGV[5] + 1), -1 do
  local of = job_id .. ':' .. attempt
  local fields = redis.call('HGETALL', WEBHOOK .. of)
  if #fields > 0 then
    local log = redis.call('LRANGE', WEBHOOK .. of .. ':log', 0, -1)
    found[#found + 1] = { attempt, fields, log, redis.call('ZSCORE', WEBHOOKS, of) }
  end
end
return { 'webhooks', found }
