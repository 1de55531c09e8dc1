-- Runs one step of a data migration, a file of migrations/ that precedes this text as the function `migrate`. The
-- step and the cursor of the next step are written together, so a step is done once even if a process or Redis
-- crashes.
-- KEYS[1] the lock   KEYS[2] hash of migrations
-- ARGV[1] token in the lock   ARGV[2] its TTL in ms   ARGV[3] the file's name   ARGV[4] its checksum
-- ARGV[5] size of a step in keys   ARGV[6] TTL of a job in s   ARGV[7] TTL of KEYS[2] in s
-- ARGV[8] layout: 'numbered' databases | 'cluster'
-- KEYS[2] maps a name to 'applied checksum Unix-seconds' or 'running checksum cursor run-id-of-the-server'.
-- Returns {'more'} | {'applied'} | {'checksum_mismatch'}: another text was applied under this name
--   | {'lock_lost'}: the lock has another token
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'lock_lost' } end
local name, checksum, is_numbered = ARGV[3], ARGV[4], ARGV[8] == 'numbered'
local state, known_checksum, cursor = string.match(redis.call('HGET', KEYS[2], name) or '', '^(%a+) (%x+) (.*)$')
if known_checksum and known_checksum ~= checksum then return { 'checksum_mismatch' } end
if state == 'applied' then return { 'applied' } end

-- A SCAN cursor is valid only on the server that returned it, until that restarts. Another server starts again.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local position, cursor_run_id = string.match(cursor or '', '^(%S+) (%x+)$')
if cursor_run_id ~= run_id then position = nil end
-- All migrations so far change data of the Python service, which used numbered databases. A cluster has none of it.
local next_cursor = is_numbered and migrate(position or '', ARGV[5], tonumber(ARGV[6]), is_numbered)
if is_numbered then redis.call('SELECT', 1) end
local entry
if next_cursor then
  entry = 'running ' .. checksum .. ' ' .. next_cursor .. ' ' .. run_id
else
  entry = 'applied ' .. checksum .. ' ' .. redis.call('TIME')[1]
end
redis.call('HSET', KEYS[2], name, entry)
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { next_cursor and 'more' or 'applied' }
