-- Asks what a file says, one request after the other, over and over. `########` in it is another number each time, so
-- that a report says something new and is recorded.
local MARK = '########'
local asks = {}
-- Further on than any number of the time before can have come.
local n = os.time() % 1000 * 100000

local function cut(text)
  local parts, at = {}, 1
  while true do
    local first, last = text:find(MARK, at, true)
    if not first then break end
    parts[#parts + 1] = text:sub(at, first - 1)
    at = last + 1
  end
  parts[#parts + 1] = text:sub(at)
  return parts
end

function init(args)
  for _, it in ipairs(dofile(args[1])) do
    asks[#asks + 1] = cut(wrk.format(it.method, it.path, it.headers, it.body))
  end
end

function request()
  n = n + 1
  return table.concat(asks[n % #asks + 1], string.format('%08d', n % 100000000))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"bytes":%.0f,"broken":%d,"refused":%d,"p50":%.1f,"p99":%.1f,"p999":%.1f}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
