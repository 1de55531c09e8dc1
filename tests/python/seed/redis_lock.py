"""The seed's RedisLock, unchanged but for its imports and an exception that it raises without having it."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager

# Defect 1: the seed's manager hands out synchronous clients, which its own classes await.
from redis.asyncio import Redis


class LockAcquisitionError(Exception):
    """Defect 39: it is defined nowhere."""


class RedisLock:
    """Distributed locking using Redis"""

    def __init__(self, redis_client: Redis):
        self.redis = redis_client

    @asynccontextmanager
    async def acquire_lock(
        self,
        resource: str,
        timeout: int = 10,
        blocking: bool = True,
        blocking_timeout: int = 30
    ):
        """Acquire distributed lock"""

        lock_key = f"lock:{resource}"
        identifier = str(uuid.uuid4())

        acquired = False
        start_time = time.time()

        while True:
            # Try to acquire lock
            acquired = await self.redis.set(
                lock_key,
                identifier,
                nx=True,  # Only set if not exists
                ex=timeout  # Expiration time
            )

            if acquired:
                break

            if not blocking:
                raise LockAcquisitionError(f"Could not acquire lock for {resource}")

            # Check timeout
            if time.time() - start_time > blocking_timeout:
                raise LockAcquisitionError(f"Timeout acquiring lock for {resource}")

            # Wait before retry
            await asyncio.sleep(0.1)

        try:
            yield identifier
        finally:
            # Release lock only if we still own it
            lua_script = """
            if redis.call("get", KEYS[1]) == ARGV[1] then
                return redis.call("del", KEYS[1])
            else
                return 0
            end
            """

            await self.redis.eval(
                lua_script,
                1,
                lock_key,
                identifier
            )

    async def extend_lock(
        self,
        resource: str,
        identifier: str,
        additional_time: int
    ) -> bool:
        """Extend lock expiration"""

        lock_key = f"lock:{resource}"

        # Lua script to extend only if we own the lock
        lua_script = """
        if redis.call("get", KEYS[1]) == ARGV[1] then
            return redis.call("expire", KEYS[1], ARGV[2])
        else
            return 0
        end
        """

        result = await self.redis.eval(
            lua_script,
            1,
            lock_key,
            identifier,
            additional_time
        )

        return bool(result)
