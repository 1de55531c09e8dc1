-- Reads all API keys and their last-use times.
-- KEYS[1] records      KEYS[2] their version      KEYS[3] last-use times
-- Returns {'keys', {id, record as JSON, ...}, {id, Unix seconds, ...}}
return { 'keys', redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3]) }
