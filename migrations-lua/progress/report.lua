-- Records progress of one or more files of a job: percents, states and stream entries together.
-- ARGV[5..] four arguments a file: file_id, percent, attempt ('0': the current one), message ('' for none, or
-- 'm' + text)
-- Returns {'recorded', number recorded, number ignored, lifecycle events} | {'missing'} | {'refused', status}
--   | {'unknown_file', file_id}
-- A report is ignored if its attempt is older, its file is finished, or it changes nothing.
local job = load_job()
if not job then return { 'missing' } end
if TERMINAL[job.status] or job.status == 'cancelling' then return { 'refused', job.status } end
for i = 5, #ARGV, 4 do
  if tonumber(string.match(ARGV[i], '^file_(%d+)$')) >= job.total then return { 'unknown_file', ARGV[i] } end
end

local states, percents = load_states(), load_percents(job.total)
local recorded, changed_states, ignored = {}, {}, 0

local function record(file_id, percent, attempt, message)
  local state = states[file_id] or { status = 'pending', attempt = 1, note = '' }
  if attempt == 0 then attempt = state.attempt end
  if attempt < state.attempt or TERMINAL[state.status] then return false end
  -- Within an attempt a late report never lowers the percent. A new attempt starts at its own percent.
  local is_same_attempt = attempt == state.attempt and state.status ~= 'retrying'
  local index = tonumber(string.sub(file_id, 6)) + 1
  local previous = tonumber(percents[index]) or 0
  if is_same_attempt then percent = math.max(percent, previous) end
  local is_unchanged = state.status == 'processing' and percent == previous and (message or '') == state.note
  if is_same_attempt and is_unchanged then return false end
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
  refresh_ttls(job)
  return { 'recorded', 0, ignored }
end

mark_processing(job)
-- Writes are grouped by database, because a SELECT costs as much as a write.
local overall = overall_percent(job, states, percents)
select_db(PROGRESS_DB)
for _, report in ipairs(recorded) do
  local file_id, percent, message, attempt = unpack(report, 1, 4)
  redis.call('SET', PERCENT_PREFIX .. file_id, percent, 'EX', ttl)
  local fields = { 'status', 'processing', 'attempt', attempt, 'overall', overall,
    'completed', job.completed, 'failed', job.failed, 'total', job.total }
  if message then fields[#fields + 1] = 'message'; fields[#fields + 1] = message end
  add_entry(file_id, percent, unpack(fields))
  publish_progress(file_id, percent, message)
  changed_states[#changed_states + 1] = file_id
  changed_states[#changed_states + 1] = encode_state(states[file_id])
end
save_job('overall', overall)
save_states(unpack(changed_states))
refresh_ttls(job)
return { 'recorded', #recorded, ignored, lifecycle_events }
