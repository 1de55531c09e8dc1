-- Takes tasks back: out of the queue who still wait there, and the others are told to stop, by a revoke to the
-- workers that listen now and by a tombstone for those that look.
-- KEYS: three a task: i2m:sent:{task_id}, i2m:cancelled:{task_id}, the queue's list
-- ARGV[1] TTL of the tombstones in seconds   ARGV[2] channel of the workers' pidbox
-- ARGV[3..] two a task: the exact message, the revoke message
-- Returns {'withdrawn', number of tasks that no worker has}
local n = 0
for i = 1, #KEYS, 3 do
  local at = 3 + (i - 1) / 3 * 2
  redis.call('SET', KEYS[i + 1], '1', 'EX', ARGV[1])
  -- A task that was never sent must not be sent by anybody who is late.
  local was_sent = not redis.call('SET', KEYS[i], '1', 'NX', 'EX', ARGV[1])
  if redis.call('LREM', KEYS[i + 2], 0, ARGV[at]) > 0 or not was_sent then
    n = n + 1
  else
    redis.call('PUBLISH', ARGV[2], ARGV[at + 1])
  end
end
return { 'withdrawn', n }
