-- Records progress of one or more files of a job: percents, states and stream entries together.
-- ARGV[5..] four a file: file_id, percent, attempt ('0': the present one), message ('' none, 'm' + text)
-- Returns {'recorded', n recorded, n ignored, milestones} | {'missing'} | {'refused', status} | {'unknown_file', file_id}
-- Ignored: an older attempt, a file that is finished, what changes nothing.
local job = load_job()
if not job then return { 'missing' } end
if ENDED[job.status] or job.status == 'cancelling' then return { 'refused', job.status } end
for i = 5, #ARGV, 4 do
  if tonumber(string.match(ARGV[i], '^file_(%d+)$')) >= job.total then return { 'unknown_file', ARGV[i] } end
end

local states, percents = load_states(), load_percents(job.total)
local recorded, changed_states, ignored = {}, {}, 0

local function record(file_id, percent, attempt, message)
  local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
  if attempt == 0 then attempt = state.attempt end
  if attempt < state.attempt or FINISHED[state.status] then return false end
  -- Within an attempt a late report never takes progress back; a new attempt begins anew.
  local is_same_attempt = attempt == state.attempt and state.status ~= 'retrying'
  local index = tonumber(string.sub(file_id, 6)) + 1
  local before = tonumber(percents[index]) or 0
  if is_same_attempt then percent = math.max(percent, before) end
  if is_same_attempt and state.status == 'processing' and percent == before and (message or '') == state.note then
    return false
  end
  percents[index] = percent
  states[file_id] = { status = 'processing', attempt = attempt, note = message or '' }
  recorded[#recorded + 1] = { file_id, percent, message, attempt }
  return true
end

for i = 5, #ARGV, 4 do
  local message
  if ARGV[i + 3] ~= '' then message = string.sub(ARGV[i + 3], 2) end
  if not record(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), message) then ignored = ignored + 1 end
end
if #recorded == 0 then
  renew(job)
  return { 'recorded', 0, ignored }
end

begin_work(job)
-- What stands in one database is written together: to select another one costs as much as to write.
local overall = overall_percent(job, states, percents)
use(PROGRESS_DB)
for _, it in ipairs(recorded) do
  local file_id, percent, message, attempt = unpack(it, 1, 4)
  redis.call('SET', PERCENT .. file_id, percent, 'EX', ttl)
  local fields = { 'status', 'processing', 'attempt', attempt, 'overall', overall,
    'completed', job.completed, 'failed', job.failed, 'total', job.total }
  if message then fields[#fields + 1] = 'message'; fields[#fields + 1] = message end
  add_entry(file_id, percent, unpack(fields))
  publish_progress(file_id, percent, message)
  changed_states[#changed_states + 1] = file_id
  changed_states[#changed_states + 1] = stored_state(states[file_id])
end
save_job('overall', overall)
save_states(unpack(changed_states))
renew(job)
return { 'recorded', #recorded, ignored, milestones }
