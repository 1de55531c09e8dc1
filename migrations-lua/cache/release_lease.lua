-- Gives up a computation that failed. Without a value the next caller may try at once; beside a value that is still
-- good for something only after a pause.
-- KEYS[1] the value   ARGV[5] token of the claim   ARGV[6] the pause in ms
-- Returns {'abandoned'} | {'superseded'}
local key = KEYS[1]
if redis.call('GET', claim_of(key)) ~= ARGV[5] then return { 'superseded' } end
if redis.call('EXISTS', key) == 1 then
  redis.call('PEXPIRE', claim_of(key), ARGV[6])
else
  end_claim(key)
end
return { 'abandoned' }
