-- Sends the requests of a file in turn and repeats them. Each `########` is replaced by a different number, so that
-- every report contains a new message and is recorded.
local PLACEHOLDER = '########'
local requests = {}
-- Starts above all numbers of an earlier run.
local counter = os.time() % 1000 * 100000

-- Splits a request at its placeholders.
local function split(text)
  local parts, position = {}, 1
  while true do
    local first, last = text:find(PLACEHOLDER, position, true)
    if not first then break end
    parts[#parts + 1] = text:sub(position, first - 1)
    position = last + 1
  end
  parts[#parts + 1] = text:sub(position)
  return parts
end

function init(args)
  for _, spec in ipairs(dofile(args[1])) do
    requests[#requests + 1] = split(wrk.format(spec.method, spec.path, spec.headers, spec.body))
  end
end

function request()
  counter = counter + 1
  return table.concat(requests[counter % #requests + 1], string.format('%08d', counter % 100000000))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"bytes":%.0f,"failed":%d,"error_statuses":%d,' ..
      '"p50":%.1f,"p99":%.1f,"p999":%.1f}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
