-- Deletes an unreadable value, unless it was replaced since it was read.
-- KEYS[1] the value   ARGV[5] its text when it was read
-- Returns {'deleted', 0 or 1}
local value = redis.pcall('GET', KEYS[1])
if value ~= ARGV[5] then return { 'deleted', 0 } end
return { 'deleted', delete_value(KEYS[1], load_record(KEYS[1])) }
