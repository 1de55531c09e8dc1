-- Reads a whole job at one point in time.
-- ARGV[5] extra data: 'results' of the files, 'head' of the progress stream, or ''
-- Returns {'job', {owner}, record, files, states (flat), percents, extra} | {'missing'}. `record` has the fields named
-- below in this order; `extra` has the results, or only the id of the newest stream entry.
-- The owner is in an array of its own, because a flat reply must not start with stored text.
local record = redis.call('HMGET', JOB, 'total_files', 'completed_files', 'failed_files', 'status', 'overall',
  'attempt', 'created_at', 'updated_at', 'started_at', 'ended_at', 'terminal_id', 'error', 'params')
local total = tonumber(record[1])
if not total then return { 'missing' } end

local files = redis.call('LRANGE', FILES, 0, -1)
local states = redis.call('HGETALL', STATES)
local owner = { redis.call('GET', SESSION) }
local extra = {}
if ARGV[5] == 'results' and total > 0 then
  local keys = {}
  for i = 1, total do keys[i] = RESULT_PREFIX .. file_id_at(i - 1) end
  extra = redis.call('MGET', unpack(keys))
end
local percents = load_percents(total)
if ARGV[5] == 'head' then
  select_db(PROGRESS_DB)
  local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
  extra = { newest[1] and newest[1][1] or '0-0' }
end
return { 'job', owner, record, files, states, percents, extra }
