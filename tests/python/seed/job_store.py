"""The seed's JobStore, unchanged but for its imports."""

import hashlib
import json
from datetime import datetime
from typing import Dict, List, Optional

# Defect 1: the seed's manager hands out synchronous clients, which its own classes await.
from redis.asyncio import Redis

from seed.redis_keys import RedisKeys


class JobStore:
    """Store and retrieve job data"""

    def __init__(self, redis_client: Redis):
        self.redis = redis_client
        self.ttl = 86400  # 24 hours

    async def create_job(self, job_id: str, api_key: str, files: List[Dict]) -> None:
        """Create new job with metadata"""

        job_data = {
            'job_id': job_id,
            'api_key_hash': hashlib.sha256(api_key.encode()).hexdigest(),
            'status': 'pending',
            'total_files': len(files),
            'completed_files': 0,
            'failed_files': 0,
            'created_at': datetime.utcnow().isoformat(),
            'updated_at': datetime.utcnow().isoformat()
        }

        # Use pipeline for atomic operations
        pipe = self.redis.pipeline()

        # Store job data as hash
        job_key = RedisKeys.format_key(RedisKeys.JOB_DATA, job_id=job_id)
        pipe.hset(job_key, mapping=job_data)
        pipe.expire(job_key, self.ttl)

        # Store file list
        files_key = RedisKeys.format_key(RedisKeys.JOB_FILES, job_id=job_id)
        for file in files:
            pipe.rpush(files_key, json.dumps(file))
        pipe.expire(files_key, self.ttl)

        # Create session
        session_key = RedisKeys.format_key(RedisKeys.SESSION_OWNER, job_id=job_id)
        pipe.setex(session_key, self.ttl, job_data['api_key_hash'])

        # Add to user's job list
        user_jobs_key = RedisKeys.format_key(
            RedisKeys.USER_JOBS,
            api_key_hash=job_data['api_key_hash']
        )
        pipe.sadd(user_jobs_key, job_id)
        pipe.expire(user_jobs_key, self.ttl)

        # Execute pipeline
        await pipe.execute()

    async def get_job(self, job_id: str) -> Optional[Dict]:
        """Retrieve job data"""

        job_key = RedisKeys.format_key(RedisKeys.JOB_DATA, job_id=job_id)
        job_data = await self.redis.hgetall(job_key)

        if not job_data:
            return None

        # Get file list
        files_key = RedisKeys.format_key(RedisKeys.JOB_FILES, job_id=job_id)
        files = await self.redis.lrange(files_key, 0, -1)

        job_data['files'] = [json.loads(f) for f in files]

        return job_data

    async def update_job_status(
        self,
        job_id: str,
        status: str,
        increment_completed: bool = False,
        increment_failed: bool = False
    ) -> None:
        """Update job status atomically"""

        job_key = RedisKeys.format_key(RedisKeys.JOB_DATA, job_id=job_id)

        pipe = self.redis.pipeline()
        pipe.hset(job_key, 'status', status)
        pipe.hset(job_key, 'updated_at', datetime.utcnow().isoformat())

        if increment_completed:
            pipe.hincrby(job_key, 'completed_files', 1)

        if increment_failed:
            pipe.hincrby(job_key, 'failed_files', 1)

        await pipe.execute()
