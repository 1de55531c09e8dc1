"""The Python classes that the Redis keys come from, and a client with which they run.

What they do wrong they do here, too: whoever already runs them does. Only what kept them from running at all is
changed, and says so by the number of its defect.
"""

from redis.asyncio import Redis

from seed.event_publisher import EventPublisher
from seed.job_store import JobStore
from seed.progress_tracker import ProgressTracker
from seed.redis_cache import RedisCache
from seed.redis_keys import RedisKeys
from seed.redis_lock import LockAcquisitionError, RedisLock

__all__ = [
    "EventPublisher",
    "JobStore",
    "LockAcquisitionError",
    "ProgressTracker",
    "RedisCache",
    "RedisKeys",
    "RedisLock",
    "connect",
]


def connect(socket: str, database: int) -> Redis:
    """A client for the seed's classes, in place of its RedisManager's."""
    return Redis(
        unix_socket_path=socket,
        db=database,
        # Defect 3: get_batch_progress splits keys with a str.
        decode_responses=True,
        # Defect 4: a timeout of five seconds is over before XREAD BLOCK 5000 answers.
        socket_timeout=None,
        # Defect 30: with RESP3, XREAD returns a dict, which stream_progress cannot unpack.
        protocol=2,
    )
