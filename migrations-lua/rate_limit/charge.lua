-- Charges a request to all of its rate limit policies, or to none of them; or refunds a charge.
-- KEYS[i] the counter of policy i
-- ARGV[1] 'charge' | 'peek', which writes nothing | 'refund' of a charge for a request that was refused elsewhere
-- ARGV[2..] four arguments a policy: algorithm, limit, window in ms, cost of this request
-- Returns {'admitted' | 'refused', now in Unix ms, {three numbers a policy: remaining requests, ms until the whole
-- limit is available, ms until this cost is admitted (0: now)}}
--
-- An algorithm returns the decision and functions that write:
-- remaining_and_reset(charged) the first two numbers of the reply, after a charge or without one
-- commit() charges, refund() undoes a charge
-- repair() or nil: makes an invalid stored value expire when the request is not charged
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

local function format_integer(number) return string.format('%.0f', number) end

-- The seed's counter: a number whose TTL is the rest of the window. The Python limiter may remove the TTL; then the
-- count stays and gets a whole window, so that no client is refused for longer than that or admitted beyond its limit.
local function fixed_window(key, limit, window, cost)
  local text = redis.pcall('GET', key)
  local is_valid = type(text) == 'string' and (text == '0' or string.match(text, '^[1-9]%d*$') ~= nil)
  local count = is_valid and tonumber(text) or 0
  local ttl = is_valid and redis.call('PTTL', key) or -2
  local left = ttl >= 0 and math.max(ttl, 1) or window
  return {
    is_admitted = count + cost <= limit,
    retry = left,
    remaining_and_reset = function(charged)
      local used = charged and count + cost or count
      return limit - used, used > 0 and left or 0
    end,
    commit = function()
      if ttl >= 0 then
        redis.call('INCRBY', key, cost)
      else
        redis.call('SET', key, format_integer(count + cost), 'PX', window)
      end
    end,
    repair = ttl == -1 and function() redis.call('PEXPIRE', key, window) end,
    refund = function()
      if ttl >= 0 and count > 0 then redis.call('DECRBY', key, math.min(count, cost)) end
    end,
  }
end

-- Counts in buckets of a sixtieth of the window, named by their start. A bucket counts until all of it is outside the
-- window, so no interval of the window's length ever contains more requests than the limit.
local function sliding_window(key, limit, window, cost)
  local width = math.ceil(window / 60)
  local fields = redis.pcall('HGETALL', key)
  local is_wrong_type = fields.err ~= nil
  if is_wrong_type then fields = {} end
  local buckets, expired, total = {}, {}, 0
  for i = 1, #fields, 2 do
    local start, count = tonumber(fields[i]), tonumber(fields[i + 1])
    if not start or not count or start + width + window <= now then
      expired[#expired + 1] = fields[i]
    else
      -- After a failover the clock may be behind the previous one.
      buckets[#buckets + 1] = { math.min(start, now), count, fields[i] }
      total = total + count
    end
  end
  table.sort(buckets, function(left, right) return left[1] < right[1] end)
  local retry, excess = width + window, total + cost - limit
  for _, bucket in ipairs(buckets) do
    excess = excess - bucket[2]
    if excess <= 0 then
      retry = bucket[1] + width + window - now
      break
    end
  end
  local current_start = math.floor(now / width) * width
  return {
    is_admitted = total + cost <= limit,
    retry = retry,
    remaining_and_reset = function(charged)
      local used = charged and total + cost or total
      local newest = charged and current_start or #buckets > 0 and buckets[#buckets][1]
      return limit - used, newest and newest + width + window - now or 0
    end,
    commit = function()
      if is_wrong_type then redis.call('DEL', key) end
      for _, field in ipairs(expired) do redis.call('HDEL', key, field) end
      redis.call('HINCRBY', key, format_integer(current_start), cost)
      redis.call('PEXPIRE', key, width + window)
    end,
    refund = function()
      local left = cost
      for i = #buckets, 1, -1 do
        local refunded = math.min(left, buckets[i][2])
        if refunded > 0 then redis.call('HINCRBY', key, buckets[i][3], format_integer(-refunded)) end
        left = left - refunded
      end
    end,
  }
end

-- The generic cell rate algorithm (ITU-T I.371, virtual scheduling): the key holds the theoretical arrival time in
-- Unix microseconds. The whole limit may be used at once; then requests become available one by one, evenly spaced.
local function gcra(key, limit, window, cost)
  local step = math.ceil(window * 1000 / limit)
  local max_ahead = step * limit
  local text = redis.pcall('GET', key)
  local stored = type(text) == 'string' and tonumber(text) or 0
  -- A time further ahead than the limit allows was written by another clock.
  local is_invalid = stored > now_us + max_ahead
  local ahead = is_invalid and max_ahead or math.max(stored - now_us, 0)
  local ahead_after = ahead + cost * step
  local function write(ahead_us)
    redis.call('SET', key, format_integer(now_us + ahead_us), 'PX', math.max(math.ceil(ahead_us / 1000), 1))
  end
  return {
    is_admitted = ahead_after <= max_ahead,
    retry = math.ceil((ahead_after - max_ahead) / 1000),
    remaining_and_reset = function(charged)
      local used = charged and ahead_after or ahead
      return math.floor((max_ahead - used) / step), math.ceil(used / 1000)
    end,
    commit = function() write(ahead_after) end,
    repair = is_invalid and function() write(ahead) end,
    refund = function()
      if ahead > 0 then write(math.max(ahead - cost * step, 0)) end
    end,
  }
end

local algorithms = { fixed_window = fixed_window, sliding_window = sliding_window, gcra = gcra }
local policies, is_admitted = {}, true
for i, key in ipairs(KEYS) do
  local arg = 4 * i - 2
  local policy =
    algorithms[ARGV[arg]](key, tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3]))
  is_admitted = is_admitted and policy.is_admitted
  policies[i] = policy
end

if ARGV[1] == 'refund' then
  for _, policy in ipairs(policies) do policy.refund() end
end

local charged = is_admitted and ARGV[1] == 'charge'
local statuses = {}
for _, policy in ipairs(policies) do
  if charged then
    policy.commit()
  elseif ARGV[1] == 'charge' and policy.repair then
    policy.repair()
  end
  local remaining, reset = policy.remaining_and_reset(charged)
  statuses[#statuses + 1] = math.max(remaining, 0)
  statuses[#statuses + 1] = reset
  statuses[#statuses + 1] = policy.is_admitted and 0 or policy.retry
end
return { is_admitted and 'admitted' or 'refused', now, statuses }
