-- Removes a value that cannot be read, unless it has been replaced since.
-- KEYS[1] the value   ARGV[5] what it was
-- Returns {'dropped', 0 or 1}
local value = redis.pcall('GET', KEYS[1])
if value ~= ARGV[5] then return { 'dropped', 0 } end
return { 'dropped', drop(KEYS[1], load_record(KEYS[1])) }
