"""The seed's Python classes and the gateway share one Redis and read each other's data."""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import re
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.asyncio import Redis
from seed import EventPublisher, JobStore, ProgressTracker, connect
from servers import TIMEOUT_SECS, RedisServer, running_gateway, wait_for

# Raised by the seed's code: redis-py 8 deprecates SETEX, and Python 3.12 deprecates utcnow().
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KEY = "seed-key"
OWNER = sha256(KEY.encode()).hexdigest()
FILES = [
    {"filename": "chair.png", "size": 48213, "content_type": "image/png"},
    {"filename": "mug.png", "size": 20480, "content_type": "image/png"},
]
JOBS_DB, PROGRESS_DB = 1, 2
TTL_SECS = 86_400
# The format of datetime.utcnow().isoformat().
NAIVE_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")

Body = dict[str, Any]


class Gateway:
    """The gateway over HTTP, with one API key."""

    def __init__(self, base_url: str, server: RedisServer) -> None:
        self.base_url = base_url
        self.server = server

    def call(self, method: str, path: str, body: Body | None = None) -> Body:
        request = urllib.request.Request(
            f"{self.base_url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
            return json.load(response)

    def get(self, path: str) -> Body:
        return self.call("GET", path)

    def create_job(self) -> str:
        return self.call("POST", "/api/v1/jobs", {"files": FILES})["job_id"]

    def report(self, job: str, progress: int, message: str) -> None:
        body = {"progress": progress, "message": message}
        self.call("POST", f"/api/v1/jobs/{job}/files/file_000/progress", body)

    def complete(self, job: str, file: str) -> None:
        result = {
            "filename": "chair.glb",
            "size": 81920,
            "mime_type": "model/gltf-binary",
            "url": "https://models.example/chair.glb",
        }
        body = {"status": "completed", "result": result}
        self.call("PUT", f"/api/v1/jobs/{job}/files/{file}/result", body)

    def follow(self, path: str) -> EventStream:
        return EventStream(self.base_url, path)

    @contextmanager
    def listener(self, channel: str) -> Iterator[Callable[[str], Body]]:
        """Subscribes to `channel` and yields a function for the next message with this `type`."""
        with self.server.client.pubsub() as pubsub:
            pubsub.subscribe(channel)
            wait_for("the subscription", lambda: pubsub.get_message(timeout=1))

            def poll(event_type: str) -> Body | None:
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                event = json.loads(message["data"]) if message else {}
                return event if event.get("type") == event_type else None

            yield lambda event_type: wait_for(event_type, lambda: poll(event_type))

    def ttls(self, job: str) -> dict[str, int]:
        """Returns the TTL in seconds of every key of this job and of its owner; -1 means no TTL."""
        return {key: client.ttl(key) for client, key in self._keys(job)}

    def stale_ttls(self, job: str) -> dict[str, int]:
        """Returns the TTLs that the gateway has not renewed."""
        ttls = self.ttls(job)
        assert f"job:{job}" in ttls and f"stream:progress:{job}" in ttls
        return {key: secs for key, secs in ttls.items() if not TTL_SECS - 100 < secs <= TTL_SECS}

    def shorten_ttls(self, job: str) -> None:
        """Makes `job` look as if it was last written long ago."""
        for client, key in self._keys(job):
            client.expire(key, TTL_SECS // 10)

    def _keys(self, job: str) -> Iterator[tuple[redis.Redis, str]]:
        for database in range(5):
            path = str(self.server.socket)
            with redis.Redis(unix_socket_path=path, db=database, decode_responses=True) as client:
                # KEYS, because SCAN may return a key twice.
                for key in client.keys():
                    # Rate limit windows are never renewed.
                    if (job in key or OWNER in key) and not key.startswith("rl:"):
                        yield client, key


class EventStream:
    """One connection to an event stream."""

    def __init__(self, base_url: str, path: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=TIMEOUT_SECS)
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.headers["Content-Type"] == "text/event-stream"

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._response.close()
        self._connection.close()

    def next(self) -> tuple[str, Body] | None:
        """Returns the name and data of the next event, or `None` at the end of the stream."""
        name = "message"
        while line := self._response.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)
        return None

    def wait_for(self, name: str) -> Body:
        while event := self.next():
            if event[0] == name:
                return event[1]
        raise AssertionError(f"the stream ended before {name}")


class Seed:
    """The seed's classes, each with the database that it uses."""

    def __init__(self, jobs: Redis, progress: Redis) -> None:
        self.jobs = JobStore(jobs)
        self.tracker = ProgressTracker(progress)
        self.publisher = EventPublisher(jobs)

    async def create_job(self) -> str:
        """Creates a job as the seed's upload API does."""
        job = str(uuid.uuid4())
        await self.jobs.create_job(job, KEY, FILES)
        await self.tracker.initialize_batch(job, len(FILES))
        return job


@asynccontextmanager
async def seed_on(gateway: Gateway) -> AsyncIterator[Seed]:
    path = str(gateway.server.socket)
    async with connect(path, JOBS_DB) as jobs, connect(path, PROGRESS_DB) as progress:
        yield Seed(jobs, progress)


def with_seed(test: Callable[[Gateway, Seed], Awaitable[None]]) -> Callable[[Gateway], None]:
    """Runs `test` with the seed's classes. The test may block, because nothing else runs on its event loop."""

    async def run(gateway: Gateway) -> None:
        async with seed_on(gateway) as seed:
            await test(gateway, seed)

    @functools.wraps(test)
    def wrapped(gateway: Gateway) -> None:
        asyncio.run(run(gateway))

    # Otherwise pytest inspects the wrapped function and looks for a fixture named `seed`.
    del wrapped.__wrapped__  # type: ignore[attr-defined]
    return wrapped


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    settings = {"I2M__SSE__STATUS_CHECK_INTERVAL": "100ms"}
    with (
        RedisServer.start() as server,
        running_gateway(server.gateway_url, log, **settings) as base_url,
    ):
        yield Gateway(base_url, server)


@with_seed
async def test_a_job_of_the_seed_is_served(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    stored = await seed.jobs.get_job(job)

    shown = gateway.get(f"/api/v1/jobs/{job}")
    assert shown["status"] == "pending"
    assert (shown["total_files"], shown["completed_files"], shown["failed_files"]) == (2, 0, 0)
    assert shown["created_at"] == f"{stored['created_at']}Z"
    assert shown["updated_at"] == f"{stored['updated_at']}Z"
    state = {"status": "pending", "progress": 0, "attempt": 1}
    assert shown["files"] == [
        {**FILES[0], "file_id": "file_000", **state},
        {**FILES[1], "file_id": "file_001", **state},
    ]
    assert job in [listed["job_id"] for listed in gateway.get("/api/v1/jobs")["jobs"]]
    assert gateway.get(f"/api/v1/jobs/{job}/status")["status"] == "pending"


@with_seed
async def test_progress_of_the_seed_is_streamed(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    with gateway.follow(f"/api/v1/jobs/{job}/progress/stream") as stream:
        assert stream.next() == (
            "task_queued",
            {"status": "queued", "progress": 0, "task_id": job, "job_id": job, "total_files": 2},
        )
        await seed.tracker.update_progress(job, "file_001", 60, "meshing")
        assert stream.next() == (
            "file_update",
            {
                "job_id": job,
                "file_id": "file_001",
                "index": 1,
                "filename": "mug.png",
                "status": "processing",
                "file_progress": 60,
                "message": "meshing",
            },
        )
        name, progress = stream.next()
        assert (name, progress["status"]) == ("task_progress", "processing")
        assert progress["progress"] == 30
        assert (progress["current"], progress["total"]) == (0, 2)

        await seed.tracker.update_progress(job, "file_001", 80)
        assert "message" not in stream.wait_for("file_update")
        assert stream.wait_for("task_progress")["progress"] == 40

    shown = gateway.get(f"/api/v1/jobs/{job}/progress")
    assert shown["overall_progress"] == 40
    assert shown["files"]["file_001"]["progress"] == 80


@with_seed
async def test_a_status_written_by_the_seed_ends_the_job(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    with gateway.follow(f"/api/v1/jobs/{job}/progress/stream") as stream:
        await complete_by_status(gateway, seed, job, stream)
    assert gateway.get(f"/api/v1/jobs/{job}")["status"] == "completed"
    assert gateway.get(f"/api/v1/jobs/{job}/status")["status"] == "completed"


@with_seed
async def test_the_end_of_an_old_job_renews_every_ttl(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    gateway.shorten_ttls(job)
    with gateway.follow(f"/api/v1/jobs/{job}/progress/stream") as stream:
        await complete_by_status(gateway, seed, job, stream)
    assert gateway.stale_ttls(job) == {}


@with_seed
async def test_the_end_of_a_new_job_renews_every_ttl(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    with gateway.follow(f"/api/v1/jobs/{job}/progress/stream") as stream:
        await complete_by_status(gateway, seed, job, stream)
    assert gateway.stale_ttls(job) == {}


async def complete_by_status(gateway: Gateway, seed: Seed, job: str, stream: EventStream) -> None:
    """Processes `job` as the seed's code does, until `stream` ends."""
    await seed.tracker.update_progress(job, "file_000", 100)
    stream.wait_for("task_progress")
    # Defects 21 and 22: the key has no TTL, and the gateway must set one.
    assert gateway.ttls(job)[f"progress:{job}:file_000"] == -1
    await seed.jobs.update_job_status(job, "processing", increment_completed=True)
    await seed.jobs.update_job_status(job, "completed", increment_completed=True)
    end = stream.wait_for("task_completed")
    assert end["summary"] == {"total_files": 2, "successful_files": 2, "failed_files": 0}
    assert stream.next() is None


@with_seed
async def test_the_seed_reads_a_job_created_over_http(gateway: Gateway, seed: Seed) -> None:
    job = gateway.create_job()
    stored = await seed.jobs.get_job(job)
    seeds = {
        "job_id": job,
        "api_key_hash": OWNER,
        "status": "pending",
        # Defect 12: the values of a hash are strings.
        "total_files": "2",
        "completed_files": "0",
        "failed_files": "0",
        "files": [{**FILES[0], "file_id": "file_000"}, {**FILES[1], "file_id": "file_001"}],
    }
    assert {name: stored[name] for name in seeds} == seeds
    shown = gateway.get(f"/api/v1/jobs/{job}")
    for name in ("created_at", "updated_at"):
        assert_near_now(stored[name])
        assert parse_utc(shown[name]) == datetime.fromisoformat(stored[name])
        assert shown[name].endswith("Z")
    assert await seed.tracker.get_batch_progress(job) == {"file_000": 0, "file_001": 0}


@with_seed
async def test_the_seed_reads_progress_reported_over_http(gateway: Gateway, seed: Seed) -> None:
    job = gateway.create_job()
    gateway.report(job, 40, "meshing")
    assert await seed.tracker.get_batch_progress(job) == {"file_000": 40, "file_001": 0}
    events = await seed.tracker.stream_progress(job, last_id="0")
    assert re.fullmatch(r"\d+-\d+", events[-1]["id"])
    entry = events[-1]["data"]
    assert (entry["file_id"], entry["progress"], entry["message"]) == ("file_000", "40", "meshing")
    # Every entry has the fields that the seed writes.
    for event in events:
        assert int(event["data"]["progress"]) in range(101)
        assert isinstance(event["data"]["file_id"], str)
        assert_near_now(event["data"]["timestamp"])

    gateway.complete(job, "file_000")
    gateway.complete(job, "file_001")
    stored = await seed.jobs.get_job(job)
    assert (stored["status"], stored["completed_files"], stored["failed_files"]) == (
        "completed",
        "2",
        "0",
    )
    assert await seed.tracker.get_batch_progress(job) == {"file_000": 100, "file_001": 100}


def test_subscribers_receive_events_reported_over_http(gateway: Gateway) -> None:
    job = gateway.create_job()
    with (
        gateway.listener(f"progress:{job}") as next_progress,
        gateway.listener(f"job:{job}:events") as next_event,
    ):
        gateway.report(job, 40, "meshing")
        event = next_progress("progress")
        assert_near_now(event.pop("timestamp"))
        assert event == {
            "type": "progress",
            "job_id": job,
            "file_id": "file_000",
            "progress": 40,
            "message": "meshing",
        }
        event = next_event("job_processing")
        assert_near_now(event.pop("timestamp"))
        assert event == {
            "type": "job_processing",
            "job_id": job,
            "data": {"status": "processing"},
        }
        gateway.complete(job, "file_000")
        gateway.complete(job, "file_001")
        assert next_event("job_completed")["data"] == {
            "status": "completed",
            "total_files": 2,
            "completed_files": 2,
            "failed_files": 0,
        }


@with_seed
async def test_an_event_published_by_the_seed_reaches_browsers(gateway: Gateway, seed: Seed) -> None:
    job = await seed.create_job()
    with gateway.follow(f"/api/v1/jobs/{job}/events") as stream:
        await seed.publisher.publish_job_event(job, "preview_ready", {"url": "https://x.example"})
        name, event = stream.next()
        assert_near_now(event.pop("timestamp"))
        assert (name, event) == (
            "message",
            {"type": "preview_ready", "job_id": job, "data": {"url": "https://x.example"}},
        )


def assert_near_now(timestamp: str) -> None:
    """Asserts that `timestamp` is the current time in the seed's format."""
    assert NAIVE_UTC.fullmatch(timestamp)
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    assert abs(now - datetime.fromisoformat(timestamp)) < timedelta(minutes=1)


def parse_utc(rfc3339: str) -> datetime:
    # Python before 3.11 does not parse Z.
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).replace(tzinfo=None)
