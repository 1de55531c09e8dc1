-- Reads all API keys, and when each was last used in Unix seconds.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] when each was last used
-- Returns {'keys', {id, record as JSON, …}, {id, seconds, …}}
return { 'keys', redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3]) }
