"""The seed's EventPublisher, unchanged but for its imports."""

import json
from datetime import datetime
from typing import Dict, Optional

# Defect 1: the seed's manager hands out synchronous clients, which its own classes await.
from redis.asyncio import Redis


class EventPublisher:
    """Publish events through Redis pub/sub"""

    def __init__(self, redis_client: Redis):
        self.redis = redis_client

    async def publish_job_event(
        self,
        job_id: str,
        event_type: str,
        data: Dict
    ) -> None:
        """Publish job-related event"""

        channel = f"job:{job_id}:events"

        event = {
            'type': event_type,
            'job_id': job_id,
            'timestamp': datetime.utcnow().isoformat(),
            'data': data
        }

        await self.redis.publish(
            channel,
            json.dumps(event)
        )

    async def publish_progress_event(
        self,
        job_id: str,
        file_id: str,
        progress: int,
        message: Optional[str] = None
    ) -> None:
        """Publish progress update"""

        channel = f"progress:{job_id}"

        event = {
            'type': 'progress',
            'job_id': job_id,
            'file_id': file_id,
            'progress': progress,
            'timestamp': datetime.utcnow().isoformat()
        }

        if message:
            event['message'] = message

        await self.redis.publish(
            channel,
            json.dumps(event)
        )
