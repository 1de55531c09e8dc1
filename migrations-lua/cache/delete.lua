-- Removes values with all that is known of them.
-- KEYS: the values
-- Returns {'dropped', how many there were}
local n = 0
for _, key in ipairs(KEYS) do n = n + drop(key, load_record(key)) end
return { 'dropped', n }
