-- Deletes values, their records and their tags.
-- KEYS the values
-- Returns {'deleted', number of existing values}
local deleted = 0
for _, key in ipairs(KEYS) do deleted = deleted + delete_value(key, load_record(key)) end
return { 'deleted', deleted }
