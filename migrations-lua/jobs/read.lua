-- Reads a job whole, as of one moment.
-- ARGV[5] what more: 'results' of the files, 'head' of the progress stream, or ''
-- Returns {'job', {owner}, record, files, states (flat), percents, more} | {'missing'}, `record` being the fields named
-- below, in their order, and `more` the results, or the id of the last entry alone
-- The owner stands in an array of its own: a flat reply must not begin with stored text.
local record = redis.call('HMGET', JOB, 'total_files', 'completed_files', 'failed_files', 'status', 'overall', 'attempt',
  'created_at', 'updated_at', 'started_at', 'ended_at', 'terminal_id', 'error', 'params')
local total = tonumber(record[1])
if not total then return { 'missing' } end

local files = redis.call('LRANGE', FILES, 0, -1)
local states = redis.call('HGETALL', STATES)
local owner = { redis.call('GET', SESSION) }
local more = {}
if ARGV[5] == 'results' and total > 0 then
  local keys = {}
  for i = 1, total do keys[i] = RESULT .. file_name(i - 1) end
  more = redis.call('MGET', unpack(keys))
end
local percents = load_percents(total)
if ARGV[5] == 'head' then
  use(PROGRESS_DB)
  local last = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
  more = { last[1] and last[1][1] or '0-0' }
end
return { 'job', owner, record, files, states, percents, more }
