-- Runs one piece of a file of schema/, which stands in front of this as the function migrate. The piece, and where
-- the next begins, are written together; so a piece is done once, whoever dies when.
-- KEYS[1] the lock   KEYS[2] hash of what was done
-- ARGV[1] token in the lock   ARGV[2] its TTL in ms   ARGV[3] the file's name   ARGV[4] its checksum
-- ARGV[5] how much a piece is   ARGV[6] TTL of a job in s   ARGV[7] TTL of KEYS[2] in s
-- ARGV[8] 'numbered' | 'single' databases
-- KEYS[2] maps a name to 'applied checksum Unix-seconds' or 'running checksum cursor run-id-of-the-server'.
-- Returns {'more'} | {'applied'} | {'changed'}: another text was applied under this name | {'lost'}: not our lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'lost' } end
local name, checksum, numbered = ARGV[3], ARGV[4], ARGV[8] == 'numbered'
local state, seen, cursor = string.match(redis.call('HGET', KEYS[2], name) or '', '^(%a+) (%x+) (.*)$')
if seen and seen ~= checksum then return { 'changed' } end
if state == 'applied' then return { 'applied' } end

-- A cursor of SCAN means something to the server that gave it, as long as that runs. Another one begins anew.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local position, given_by = string.match(cursor or '', '^(%S+) (%x+)$')
if given_by ~= run_id then position = nil end
-- All changes so far are about what the Python service left in numbered databases. A cluster has none of it.
local next_cursor = numbered and migrate(position or '', ARGV[5], tonumber(ARGV[6]), numbered)
if numbered then redis.call('SELECT', 1) end
local word = next_cursor and 'running' or 'applied'
redis.call('HSET', KEYS[2], name, word .. ' ' .. checksum .. ' ' .. (next_cursor and next_cursor .. ' ' .. run_id or redis.call('TIME')[1]))
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { next_cursor and 'more' or 'applied' }
