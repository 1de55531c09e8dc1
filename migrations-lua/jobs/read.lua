-- Reads a job whole, as of one moment.
-- ARGV[5] 'results' to read the results too, else ''
-- Returns {'job', owner, record (flat), files, states (flat), percents, last stream id, results} | {'missing'}
-- The owner stands in an array of its own: a flat reply must not begin with stored text.
use(JOBS_DB)
local record = redis.call('HGETALL', JOB)
local total
for i = 1, #record, 2 do
  if record[i] == 'total_files' then total = tonumber(record[i + 1]) end
end
if not total then return { 'missing' } end

local files = redis.call('LRANGE', FILES, 0, -1)
local states = redis.call('HGETALL', STATES)
local owner = { redis.call('GET', SESSION) }
local results = {}
if ARGV[5] == 'results' and total > 0 then
  local keys = {}
  for i = 1, total do keys[i] = RESULT .. file_name(i - 1) end
  results = redis.call('MGET', unpack(keys))
end
local percents = load_percents(total)
use(PROGRESS_DB)
local last = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
return { 'job', owner, record, files, states, percents, last[1] and last[1][1] or '0-0', results }
