"""The seed's RedisCache, unchanged but for its imports."""

import json
from typing import Any, Callable, List

# Defect 1: the seed's manager hands out synchronous clients, which its own classes await.
from redis.asyncio import Redis


class RedisCache:
    """Redis-based caching with patterns"""

    def __init__(self, redis_client: Redis):
        self.redis = redis_client

    async def get_or_set(
        self,
        key: str,
        factory: Callable,
        ttl: int = 300,
        refresh_on_hit: bool = False
    ) -> Any:
        """Get from cache or compute and set"""

        # Try to get from cache
        cached = await self.redis.get(key)

        if cached is not None:
            # Deserialize
            value = json.loads(cached)

            # Refresh TTL if requested
            if refresh_on_hit:
                await self.redis.expire(key, ttl)

            return value

        # Compute value
        value = await factory()

        # Cache it
        await self.redis.setex(
            key,
            ttl,
            json.dumps(value)
        )

        return value

    async def invalidate_pattern(self, pattern: str) -> int:
        """Invalidate all keys matching pattern"""

        count = 0
        cursor = 0

        while True:
            cursor, keys = await self.redis.scan(
                cursor,
                match=pattern,
                count=100
            )

            if keys:
                await self.redis.delete(*keys)
                count += len(keys)

            if cursor == 0:
                break

        return count

    async def cache_with_tags(
        self,
        key: str,
        value: Any,
        ttl: int,
        tags: List[str]
    ) -> None:
        """Cache with tag-based invalidation"""

        # Store value
        await self.redis.setex(key, ttl, json.dumps(value))

        # Store tags
        for tag in tags:
            tag_key = f"tag:{tag}"
            await self.redis.sadd(tag_key, key)
            await self.redis.expire(tag_key, ttl)

    async def invalidate_tag(self, tag: str) -> int:
        """Invalidate all keys with tag"""

        tag_key = f"tag:{tag}"
        keys = await self.redis.smembers(tag_key)

        if keys:
            await self.redis.delete(*keys)
            await self.redis.delete(tag_key)
            return len(keys)

        return 0
