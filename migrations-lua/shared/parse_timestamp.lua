-- Included in scripts that read timestamps. `read_clock` in `shared/job.lua` is the inverse; other scripts have no
-- date arithmetic. A data migration has a copy of its own, because a released migration never changes.

-- Unix ms of an ISO 8601 timestamp, naive (UTC, as the seed writes it) or with an offset; nil for other text.
-- Days from a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
local function parse_timestamp(text)
  local year, month, day, hour, minute, second, rest = string.match(text or '',
    '^(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d):(%d%d)(.*)$')
  if not year then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local day_of_year = math.floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5) + day - 1
  local day_of_era = year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100) + day_of_year
  local days = era * 146097 + day_of_era - 719468
  local fraction = string.match(rest, '^%.(%d%d?%d?)')
  local fraction_ms = fraction and tonumber(fraction .. string.rep('0', 3 - #fraction)) or 0
  local sign, offset_hours, offset_minutes = string.match(rest, '([+-])(%d%d):?(%d%d)$')
  local offset = sign and (tonumber(offset_hours) * 60 + tonumber(offset_minutes)) * (sign == '-' and -1 or 1) or 0
  return ((days * 24 + tonumber(hour)) * 60 + tonumber(minute) - offset) * 60000 + tonumber(second) * 1000 + fraction_ms
end
