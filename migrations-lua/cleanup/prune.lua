-- Takes out of a collection, one piece of it, what names something that is gone.
-- KEYS[1] a set or sorted set
-- ARGV[1] 'numbered' | 'single' databases   ARGV[2] its database   ARGV[3] 'dry' | 'real'
-- ARGV[4] what a member names: 'job' | 'task' | 'key'   ARGV[5] cursor, first '0'   ARGV[6] about how many to look at
-- Returns {'pruned', next cursor or '0', n taken out, 1 if the collection is gone with its last member, else 0}
local numbered, dry, names = ARGV[1] == 'numbered', ARGV[3] == 'dry', ARGV[4]
local type_name = redis.call('TYPE', KEYS[1]).ok
local is_sorted = type_name == 'zset'
if not is_sorted and type_name ~= 'set' then return { 'pruned', '0', 0, 0 } end

local page = redis.call(is_sorted and 'ZSCAN' or 'SSCAN', KEYS[1], ARGV[5], 'COUNT', ARGV[6])
local members, step = page[2], is_sorted and 2 or 1
if numbered and names ~= 'key' then redis.call('SELECT', 1) end
local head = numbered and '' or string.match(KEYS[1], '^.-{%x%x}:')
local gone = {}
for i = 1, #members, step do
  local member, key = members[i], nil
  -- Only a UUID is a job or a task of ours.
  if names == 'key' then key = member
  elseif string.match(member, '^%x+%-%x+%-%x+%-%x+%-%x+$') then
    key = head .. (names == 'job' and 'job:' or 'i2m:task:') .. member
  end
  -- Of a value that is known not to exist there is only this.
  local record = names == 'key' and head .. 'i2m:cache:' .. string.sub(member, #head + 1) or nil
  if key and redis.call('EXISTS', unpack({ key, record })) == 0 then gone[#gone + 1] = member end
end
if numbered then redis.call('SELECT', ARGV[2]) end
local n, is_gone = #gone, 0
if n > 0 and not dry then
  n = 0
  for i = 1, #gone, 1000 do
    n = n + redis.call(is_sorted and 'ZREM' or 'SREM', KEYS[1], unpack(gone, i, math.min(i + 999, #gone)))
  end
  is_gone = 1 - redis.call('EXISTS', KEYS[1])
end
return { 'pruned', is_gone == 1 and '0' or page[1], n, is_gone }
