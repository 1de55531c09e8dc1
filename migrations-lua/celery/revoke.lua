-- Revokes tasks. Queued tasks are removed from their queue; for others it publishes a revoke message to the workers
-- that listen now and sets a tombstone for workers that check later.
-- KEYS three a task: i2m:sent:{task_id}, i2m:cancelled:{task_id}, the queue's list
-- ARGV[1] TTL of the tombstones in seconds   ARGV[2] channel of the workers' pidbox
-- ARGV[3..] two arguments a task: the exact message, the revoke message
-- Returns {'revoked', number of tasks that no worker has}
local unstarted = 0
for i = 1, #KEYS, 3 do
  local arg = 3 + (i - 1) / 3 * 2
  redis.call('SET', KEYS[i + 1], '1', 'EX', ARGV[1])
  -- The marker keeps a late sender from sending a task that was not sent yet.
  local was_sent = not redis.call('SET', KEYS[i], '1', 'NX', 'EX', ARGV[1])
  if redis.call('LREM', KEYS[i + 2], 0, ARGV[arg]) > 0 or not was_sent then
    unstarted = unstarted + 1
  else
    redis.call('PUBLISH', ARGV[2], ARGV[arg + 1])
  end
end
return { 'revoked', unstarted }
