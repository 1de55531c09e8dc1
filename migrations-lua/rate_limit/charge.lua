-- Charges a request to every policy that it falls under, or to none of them; or gives back what was charged.
-- KEYS[i] what policy i counts in
-- ARGV[1] 'charge' | 'peek', which writes nothing | 'refund', where the request was charged here and refused elsewhere
-- then for each policy: its algorithm, limit, window in ms, the cost of this request
-- Returns {'admitted' | 'refused', now in ms, {for each policy: what remains, ms until the whole limit is back,
-- ms until this cost is admitted (0: at once)}}
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

local function whole(number) return string.format('%.0f', number) end

-- The seed's counter: a plain number whose TTL is what is left of the window. Python's limiter may drop the TTL; the
-- count then stands and gets a window of its own, so nobody is refused for longer than that, and nobody is let off.
local function fixed_window(key, limit, window, cost)
  local text = redis.pcall('GET', key)
  local is_ours = type(text) == 'string' and (text == '0' or string.match(text, '^[1-9]%d*$') ~= nil)
  local count = is_ours and tonumber(text) or 0
  local ttl = is_ours and redis.call('PTTL', key) or -2
  local left = ttl >= 0 and math.max(ttl, 1) or window
  return {
    is_admitted = count + cost <= limit,
    retry = left,
    standing = function(charged)
      local used = charged and count + cost or count
      return limit - used, used > 0 and left or 0
    end,
    commit = function()
      if ttl >= 0 then
        redis.call('INCRBY', key, cost)
      else
        redis.call('SET', key, whole(count + cost), 'PX', window)
      end
    end,
    heal = ttl == -1 and function() redis.call('PEXPIRE', key, window) end,
    refund = function()
      if ttl >= 0 and count > 0 then redis.call('DECRBY', key, math.min(count, cost)) end
    end,
  }
end

-- Counts in sixtieths of the window, each named by when it began and counted in whole until all of it lies outside
-- the window: no interval of the window's length ever holds more than the limit.
local function sliding_window(key, limit, window, cost)
  local width = math.ceil(window / 60)
  local fields = redis.pcall('HGETALL', key)
  local is_foreign = fields.err ~= nil
  if is_foreign then fields = {} end
  local parts, stale, total = {}, {}, 0
  for i = 1, #fields, 2 do
    local start, count = tonumber(fields[i]), tonumber(fields[i + 1])
    if not start or not count or start + width + window <= now then
      stale[#stale + 1] = fields[i]
    else
      -- After a failover the clock may stand earlier than it did.
      parts[#parts + 1] = { math.min(start, now), count, fields[i] }
      total = total + count
    end
  end
  table.sort(parts, function(a, b) return a[1] < b[1] end)
  local retry, excess = width + window, total + cost - limit
  for _, part in ipairs(parts) do
    excess = excess - part[2]
    if excess <= 0 then
      retry = part[1] + width + window - now
      break
    end
  end
  local present = math.floor(now / width) * width
  return {
    is_admitted = total + cost <= limit,
    retry = retry,
    standing = function(charged)
      local used = charged and total + cost or total
      local newest = charged and present or #parts > 0 and parts[#parts][1]
      return limit - used, newest and newest + width + window - now or 0
    end,
    commit = function()
      if is_foreign then redis.call('DEL', key) end
      for _, field in ipairs(stale) do redis.call('HDEL', key, field) end
      redis.call('HINCRBY', key, whole(present), cost)
      redis.call('PEXPIRE', key, width + window)
    end,
    refund = function()
      local left = cost
      for i = #parts, 1, -1 do
        local part = math.min(left, parts[i][2])
        if part > 0 then redis.call('HINCRBY', key, parts[i][3], whole(-part)) end
        left = left - part
      end
    end,
  }
end

-- The generic cell rate algorithm (ITU-T I.371, virtual scheduling): the key holds the theoretical arrival time in
-- microseconds. The whole limit may come at once, and then comes back evenly, one by one.
local function gcra(key, limit, window, cost)
  local step = math.ceil(window * 1000 / limit)
  local most = step * limit
  local text = redis.pcall('GET', key)
  local stored = type(text) == 'string' and tonumber(text) or 0
  -- What lies further ahead than the limit reaches was not written by this clock.
  local is_foreign = stored > now_us + most
  local ahead = is_foreign and most or math.max(stored - now_us, 0)
  local after = ahead + cost * step
  local function write(it)
    redis.call('SET', key, whole(now_us + it), 'PX', math.max(math.ceil(it / 1000), 1))
  end
  return {
    is_admitted = after <= most,
    retry = math.ceil((after - most) / 1000),
    standing = function(charged)
      local used = charged and after or ahead
      return math.floor((most - used) / step), math.ceil(used / 1000)
    end,
    commit = function() write(after) end,
    heal = is_foreign and function() write(ahead) end,
    refund = function()
      if ahead > 0 then write(math.max(ahead - cost * step, 0)) end
    end,
  }
end

local algorithms = { fixed_window = fixed_window, sliding_window = sliding_window, gcra = gcra }
local policies, is_admitted = {}, true
for i, key in ipairs(KEYS) do
  local at = 4 * i - 2
  local policy =
    algorithms[ARGV[at]](key, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
  is_admitted = is_admitted and policy.is_admitted
  policies[i] = policy
end

if ARGV[1] == 'refund' then
  for _, policy in ipairs(policies) do policy.refund() end
end

local charged = is_admitted and ARGV[1] == 'charge'
local standings = {}
for _, policy in ipairs(policies) do
  if charged then
    policy.commit()
  elseif ARGV[1] == 'charge' and policy.heal then
    policy.heal()
  end
  local remaining, reset = policy.standing(charged)
  standings[#standings + 1] = math.max(remaining, 0)
  standings[#standings + 1] = reset
  standings[#standings + 1] = policy.is_admitted and 0 or policy.retry
end
return { is_admitted and 'admitted' or 'refused', now, standings }
