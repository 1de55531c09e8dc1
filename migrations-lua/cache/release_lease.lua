-- Releases the lease of a failed computation. If there is no value, the next caller may compute at once; if a stale
-- value exists, only after a pause.
-- KEYS[1] the value   ARGV[5] token of the lease   ARGV[6] the pause in ms
-- Returns {'released'} | {'superseded'}: the lease has another token or has ended
local key = KEYS[1]
if redis.call('GET', lease_key(key)) ~= ARGV[5] then return { 'superseded' } end
if redis.call('EXISTS', key) == 1 then
  redis.call('PEXPIRE', lease_key(key), ARGV[6])
else
  release_lease(key)
end
return { 'released' }
