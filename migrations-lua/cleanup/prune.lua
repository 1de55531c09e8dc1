-- Removes members of one page of a collection that name deleted jobs, tasks or keys.
-- KEYS[1] a set or sorted set
-- ARGV[1] layout: 'numbered' databases | 'cluster'   ARGV[2] its database   ARGV[3] 'dry' | 'real'
-- ARGV[4] what a member names: 'job' | 'task' | 'key'   ARGV[5] cursor, '0' at first   ARGV[6] approximate page size
-- Returns {'pruned', next cursor or '0', number of removed members, 1 if the collection was deleted with its last
-- member, else 0}
local is_numbered, is_dry_run, kind = ARGV[1] == 'numbered', ARGV[3] == 'dry', ARGV[4]
local type_name = redis.call('TYPE', KEYS[1]).ok
local is_sorted = type_name == 'zset'
if not is_sorted and type_name ~= 'set' then return { 'pruned', '0', 0, 0 } end

local page = redis.call(is_sorted and 'ZSCAN' or 'SSCAN', KEYS[1], ARGV[5], 'COUNT', ARGV[6])
local members, stride = page[2], is_sorted and 2 or 1
if is_numbered and kind ~= 'key' then redis.call('SELECT', 1) end
local partition_prefix = is_numbered and '' or string.match(KEYS[1], '^.-{%x%x}:')
local dangling = {}
for i = 1, #members, stride do
  local member = members[i]
  local key, record
  if kind == 'key' then
    key = member
    -- A cached value that is known not to exist has only a record.
    record = partition_prefix .. 'i2m:cache:' .. string.sub(member, #partition_prefix + 1)
  elseif string.match(member, '^%x+%-%x+%-%x+%-%x+%-%x+$') then
    -- Other members than UUIDs were written by other programs and stay.
    key = partition_prefix .. (kind == 'job' and 'job:' or 'i2m:task:') .. member
  end
  if key and redis.call('EXISTS', unpack({ key, record })) == 0 then dangling[#dangling + 1] = member end
end
if is_numbered then redis.call('SELECT', ARGV[2]) end
local removed, is_deleted = #dangling, 0
if removed > 0 and not is_dry_run then
  removed = 0
  for i = 1, #dangling, 1000 do
    local last = math.min(i + 999, #dangling)
    removed = removed + redis.call(is_sorted and 'ZREM' or 'SREM', KEYS[1], unpack(dangling, i, last))
  end
  is_deleted = 1 - redis.call('EXISTS', KEYS[1])
end
return { 'pruned', is_deleted == 1 and '0' or page[1], removed, is_deleted }
