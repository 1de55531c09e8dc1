-- Sends tasks to the broker, each once even if the call is repeated.
-- KEYS two a task: i2m:sent:{task_id}, the queue's list   ARGV[1] TTL of the markers in seconds
-- ARGV[2..] one message a task
-- Returns {'sent', number of tasks that were not sent before}
local sent = 0
for i = 1, #KEYS, 2 do
  if redis.call('SET', KEYS[i], '1', 'NX', 'EX', ARGV[1]) then
    redis.call('LPUSH', KEYS[i + 1], ARGV[1 + (i + 1) / 2])
    sent = sent + 1
  end
end
return { 'sent', sent }
