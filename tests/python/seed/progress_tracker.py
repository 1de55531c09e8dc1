"""The seed's ProgressTracker, unchanged but for its imports."""

from datetime import datetime
from typing import Dict, List, Optional

# Defect 1: the seed's manager hands out synchronous clients, which its own classes await.
from redis.asyncio import Redis

from seed.redis_keys import RedisKeys


class ProgressTracker:
    """Track progress for batch operations"""

    def __init__(self, redis_client: Redis):
        self.redis = redis_client

    async def initialize_batch(self, job_id: str, file_count: int) -> None:
        """Initialize progress tracking for batch"""

        # Create progress entries for each file
        pipe = self.redis.pipeline()

        for i in range(file_count):
            progress_key = RedisKeys.format_key(
                RedisKeys.PROGRESS_FILE,
                job_id=job_id,
                file_id=f"file_{i:03d}"
            )
            pipe.setex(progress_key, 86400, "0")

        await pipe.execute()

    async def update_progress(
        self,
        job_id: str,
        file_id: str,
        progress: int,
        message: Optional[str] = None
    ) -> None:
        """Update progress for a file"""

        # Update progress percentage
        progress_key = RedisKeys.format_key(
            RedisKeys.PROGRESS_FILE,
            job_id=job_id,
            file_id=file_id
        )
        await self.redis.set(progress_key, str(progress))

        # Add to progress stream
        stream_key = RedisKeys.format_key(
            RedisKeys.PROGRESS_STREAM,
            job_id=job_id
        )

        event_data = {
            'file_id': file_id,
            'progress': progress,
            'timestamp': datetime.utcnow().isoformat()
        }

        if message:
            event_data['message'] = message

        # Add to stream with automatic ID
        await self.redis.xadd(
            stream_key,
            event_data,
            maxlen=1000  # Keep last 1000 events
        )

    async def get_batch_progress(self, job_id: str) -> Dict[str, int]:
        """Get progress for all files in batch"""

        # Use pattern matching to get all progress keys
        pattern = f"progress:{job_id}:*"

        progress = {}
        cursor = 0

        while True:
            cursor, keys = await self.redis.scan(
                cursor,
                match=pattern,
                count=100
            )

            if keys:
                # Get values for all keys
                values = await self.redis.mget(keys)

                for key, value in zip(keys, values):
                    file_id = key.split(':')[-1]
                    progress[file_id] = int(value or 0)

            if cursor == 0:
                break

        return progress

    async def stream_progress(
        self,
        job_id: str,
        last_id: str = '$'
    ) -> List[Dict]:
        """Stream progress events"""

        stream_key = RedisKeys.format_key(
            RedisKeys.PROGRESS_STREAM,
            job_id=job_id
        )

        # Read from stream
        events = await self.redis.xread(
            {stream_key: last_id},
            count=100,
            block=5000  # Block for 5 seconds
        )

        results = []
        for stream_name, messages in events:
            for message_id, data in messages:
                results.append({
                    'id': message_id,
                    'data': data
                })

        return results
