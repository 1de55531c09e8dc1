-- Records progress of one or more files of a job: percents, states and stream entries together.
-- ARGV[5..] four a file: file_id, percent, attempt ('0': the present one), message ('' none, 'm' + text)
-- Returns {'recorded', n recorded, n ignored} | {'missing'} | {'refused', status} | {'unknown_file', file_id}
-- Ignored: an older attempt, a file that is finished.
local job = load_job()
if not job then return { 'missing' } end
if ENDED[job.status] or job.status == 'cancelling' then return { 'refused', job.status } end
for i = 5, #ARGV, 4 do
  if tonumber(string.match(ARGV[i], '^file_(%d+)$')) >= job.total then return { 'unknown_file', ARGV[i] } end
end

local states, recorded, ignored = load_states(), {}, 0

local function record(file_id, percent, attempt, message)
  local state = states[file_id] or { status = 'pending', attempt = 1, error = '' }
  if attempt == 0 then attempt = state.attempt end
  if attempt < state.attempt or FINISHED[state.status] then return false end
  use(PROGRESS_DB)
  -- Within an attempt a late report never takes progress back; a new attempt begins anew.
  if attempt == state.attempt then
    percent = math.max(percent, tonumber(redis.call('GET', PERCENT .. file_id)) or 0)
  end
  redis.call('SET', PERCENT .. file_id, percent, 'EX', ttl)
  if state.status ~= 'processing' or attempt ~= state.attempt then
    state.status, state.attempt, state.error = 'processing', attempt, ''
    states[file_id] = state
    save_state(file_id, state)
  end
  recorded[#recorded + 1] = { file_id, percent, message, attempt }
  return true
end

for i = 5, #ARGV, 4 do
  local message
  if ARGV[i + 3] ~= '' then message = string.sub(ARGV[i + 3], 2) end
  if not record(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), message) then ignored = ignored + 1 end
end
if #recorded == 0 then return { 'recorded', 0, ignored } end

begin_work(job)
local overall = overall_percent(job, states)
save_job('overall', overall)
for _, it in ipairs(recorded) do
  local fields = { 'status', 'processing', 'attempt', it[4], 'overall', overall,
    'completed', job.completed, 'failed', job.failed, 'total', job.total }
  if it[3] then fields[#fields + 1] = 'message'; fields[#fields + 1] = it[3] end
  add_entry(it[1], it[2], unpack(fields))
  publish_progress(it[1], it[2], it[3])
end
renew(job)
return { 'recorded', #recorded, ignored }
