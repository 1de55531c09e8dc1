"""The gateway adopts data that the seed's classes have written before its start."""

from __future__ import annotations

import asyncio
import json
import urllib.request
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from seed import JobStore, ProgressTracker, connect
from servers import TIMEOUT_SECS, RedisServer, running_gateway

# Raised by the seed's code: redis-py 8 deprecates SETEX, and Python 3.12 deprecates utcnow().
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KEY = "seed-key"
OWNER = sha256(KEY.encode()).hexdigest()
FILES = [
    {"filename": "chair.png", "size": 48213, "content_type": "image/png"},
    {"filename": "mug.png", "size": 20480, "content_type": "image/png"},
]


async def write_seed_data(path: str, jobs: list[str]) -> None:
    """Writes three jobs as the seed's programs do: one without progress, one in progress, one expired."""
    async with connect(path, 1) as first, connect(path, 2) as second:
        store, tracker = JobStore(first), ProgressTracker(second)
        for job in jobs:
            await store.create_job(job, KEY, FILES)
        # Defects 21 and 22: the progress key loses its TTL, and the stream never has one.
        await tracker.initialize_batch(jobs[1], len(FILES))
        await tracker.update_progress(jobs[1], "file_000", 40, "meshing")
        # Defect 10: an update of an expired job creates an incomplete hash without a TTL.
        await first.delete(f"job:{jobs[2]}")
        await store.update_job_status(jobs[2], "processing")


async def seed_reads(path: str, job: str) -> tuple[dict[str, Any] | None, dict[str, int]]:
    async with connect(path, 1) as first, connect(path, 2) as second:
        return await JobStore(first).get_job(job), await ProgressTracker(second).get_batch_progress(job)


def keys_without_ttl(path: str, database: int) -> list[str]:
    with redis.Redis(unix_socket_path=path, db=database, decode_responses=True) as client:
        return [key for key in client.keys() if client.ttl(key) == -1]


def get(base_url: str, path: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{base_url}{path}", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
        return json.load(response)


def test_data_of_the_seed_is_adopted_at_startup(tmp_path: Path) -> None:
    jobs = [str(uuid.uuid4()) for _ in range(3)]
    with RedisServer.start() as server:
        path = str(server.socket)
        asyncio.run(write_seed_data(path, jobs))
        with running_gateway(server.gateway_url, tmp_path / "gateway.log") as base_url:
            for database in range(1, 5):
                assert keys_without_ttl(path, database) == []
            with redis.Redis(unix_socket_path=path, db=1, decode_responses=True) as client:
                listed = client.zrange(f"user_jobs:{OWNER}:by_time", 0, -1)
                assert set(listed) == {jobs[0], jobs[1]}
                assert client.get(f"job:{jobs[0]}:status") == "pending"
            shown = get(base_url, "/api/v1/jobs")["jobs"]
            assert {job["job_id"] for job in shown} == {jobs[0], jobs[1]}
            progress = get(base_url, f"/api/v1/jobs/{jobs[1]}/progress")
            assert progress["files"]["file_000"]["progress"] == 40
        # The seed still reads the adopted data.
        stored, percents = asyncio.run(seed_reads(path, jobs[0]))
        assert stored is not None and stored["total_files"] == "2"
        # Defect 18: after create_job alone, a job had no progress.
        assert percents == {"file_000": 0, "file_001": 0}
