-- Removes every value that has a tag, in one step.
-- KEYS[1] TAG .. tag   KEYS[2] INDEX .. tag   ARGV[5] the tag   ARGV[6] what a key has to begin with to be a value
-- Returns {'dropped', how many there were}
-- A value that was stored anew without the tag stays. Of one that another program stored we do not know its tags, so
-- it goes. Members that are no values stay, with the tag.
local tag, prefix = ARGV[5], ARGV[6]
local members, seen = redis.call('SMEMBERS', KEYS[1]), {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do members[#members + 1] = key end

local n, others = 0, {}
for _, key in ipairs(members) do
  if string.sub(key, 1, #prefix) ~= prefix then
    others[#others + 1] = key
  elseif not seen[key] then
    seen[key] = true
    local record = load_record(key)
    local is_tagged = not is_about_value(key, record)
    for _, it in ipairs(record.tags) do is_tagged = is_tagged or it == tag end
    if is_tagged then n = n + drop(key, record, tag) end
  end
end
-- Members that are no values keep their tag.
if #others == 0 then
  redis.call('UNLINK', KEYS[1], KEYS[2])
else
  for key in pairs(seen) do untag(key, { tag }) end
end
return { 'dropped', n }
