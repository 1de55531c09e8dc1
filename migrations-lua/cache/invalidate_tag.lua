-- Deletes every value with a tag, in one step.
-- KEYS[1] TAG_PREFIX + tag   KEYS[2] TAG_INDEX_PREFIX + tag   ARGV[5] the tag   ARGV[6] prefix of the keys of values
-- Returns {'deleted', number of existing values}
-- A value that was stored again without the tag stays. The tags of a value that another program stored are unknown, so
-- it is deleted.
local tag, prefix = ARGV[5], ARGV[6]
local members, seen = redis.call('SMEMBERS', KEYS[1]), {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do members[#members + 1] = key end

local deleted, others = 0, {}
for _, key in ipairs(members) do
  if string.sub(key, 1, #prefix) ~= prefix then
    others[#others + 1] = key
  elseif not seen[key] then
    seen[key] = true
    local record = load_record(key)
    local is_tagged = not describes_value(key, record)
    for _, record_tag in ipairs(record.tags) do is_tagged = is_tagged or record_tag == tag end
    if is_tagged then deleted = deleted + delete_value(key, record, tag) end
  end
end
-- Members that are not values keep their tag.
if #others == 0 then
  redis.call('UNLINK', KEYS[1], KEYS[2])
else
  for key in pairs(seen) do remove_from_tags(key, { tag }) end
end
return { 'deleted', deleted }
