"""Reports to the real gateway, and retries while it is unavailable."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Gateway
from image2model_worker import (
    AsyncHttpReporter,
    GatewayError,
    GatewayUnavailable,
    HttpReporter,
    InvalidTransition,
    JobNotFound,
)

KEY = "a-worker's-key"
MODEL: dict[str, Any] = {
    "filename": "a.glb",
    "size": 123,
    "mime_type": "model/gltf-binary",
    "url": "https://models.example/a.glb",
}


class FakeClock:
    """A clock that only `sleep` advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, secs: float) -> None:
        self.now += secs
        self.sleeps.append(secs)


@pytest.fixture
def reporter(gateway: Gateway) -> HttpReporter:
    return HttpReporter(gateway.base_url, KEY)


def test_a_job_is_reported_from_start_to_end(
    gateway: Gateway, reporter: HttpReporter
) -> None:
    job = gateway.create_job(KEY, "a.png", "b.png")
    assert reporter.set_status(job, "processing")["status"] == "processing"
    reporter.progress(job, "file_000", 40.7, "meshing")
    assert reporter.job(job)["files"][0]["progress"] == 40

    both = reporter.progress_batch(
        job,
        [
            {"file_id": "file_000", "progress": 50},
            {"file_id": "file_001", "progress": 10, "message": "x" * 2000},
        ],
    )
    assert both["recorded"] == 2
    image = {"url": "https://models.example/a.webp"}
    reporter.complete(job, "file_000", **MODEL, rendered_image=image, vertices=8)
    assert reporter.fail(job, "file_001", ValueError("no object"))["status"] == "partial"

    stored = reporter.job(job)
    assert stored["status"] == "partial"
    assert [file["status"] for file in stored["files"]] == ["completed", "failed"]
    assert stored["files"][1]["error"] == "no object"


def test_every_report_is_idempotent(gateway: Gateway, reporter: HttpReporter) -> None:
    job = gateway.create_job(KEY, "a.png")
    calls: list[Callable[[], Any]] = [
        lambda: reporter.set_status(job, "processing"),
        lambda: reporter.progress(job, "file_000", 40, attempt=1),
        lambda: reporter.complete(job, "file_000", **MODEL, attempt=1),
    ]
    for call in calls:
        call()
        call()
    assert reporter.job(job)["completed_files"] == 1


def test_the_asyncio_reporter_sends_the_same_reports(gateway: Gateway) -> None:
    job = gateway.create_job(KEY, "a.png", "b.png")

    async def report() -> dict[str, Any]:
        reporter = AsyncHttpReporter(gateway.base_url, KEY)
        await reporter.set_status(job, "processing")
        await reporter.progress(job, "file_000", 10, "loading")
        await reporter.progress_batch(job, [{"file_id": "file_001", "progress": 10}])
        await reporter.complete(job, "file_000", **MODEL)
        await reporter.fail(job, "file_001", "no object")
        return await reporter.job(job)

    assert asyncio.run(report())["status"] == "partial"


def test_a_missing_job_raises_job_not_found(reporter: HttpReporter) -> None:
    job = str(uuid.uuid4())
    with pytest.raises(JobNotFound) as raised:
        reporter.progress(job, "file_000", 10)
    assert raised.value.http_status == 404
    assert raised.value.request_id
    assert raised.value.details == {"job_id": job}


def test_an_ended_job_rejects_reports(gateway: Gateway, reporter: HttpReporter) -> None:
    job = gateway.create_job(KEY, "a.png")
    reporter.set_status(job, "cancelled")
    with pytest.raises(InvalidTransition) as raised:
        reporter.progress(job, "file_000", 10)
    assert raised.value.details["status"] == "cancelled"


def test_other_errors_carry_their_code(gateway: Gateway, reporter: HttpReporter) -> None:
    job = gateway.create_job(KEY, "a.png")
    with pytest.raises(GatewayError, match="FILE_NOT_FOUND") as raised:
        reporter.progress(job, "file_009", 10)
    assert type(raised.value) is GatewayError
    assert raised.value.code == "FILE_NOT_FOUND"


def test_a_report_is_retried_during_a_redis_outage(gateway: Gateway) -> None:
    job = gateway.create_job(KEY, "a.png")
    with gateway.paused_redis() as resume:
        refusal_count = 0

        def sleep(_: float) -> None:
            nonlocal refusal_count
            refusal_count += 1
            resume()

        HttpReporter(gateway.base_url, KEY, sleep=sleep).progress(job, "file_000", 40)
    assert refusal_count >= 1
    assert HttpReporter(gateway.base_url, KEY).job(job)["files"][0]["progress"] == 40


def test_an_unreachable_gateway_fails_after_the_retries() -> None:
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        clock = FakeClock()
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        reporter = HttpReporter(
            base_url, KEY, retry_for_secs=30, clock=clock.time, sleep=clock.sleep
        )
        with pytest.raises(GatewayUnavailable) as raised:
            reporter.progress(str(uuid.uuid4()), "file_000", 10)
    assert raised.value.code == "CONNECTION_FAILED"
    assert 20 < clock.now < 30
    assert max(clock.sleeps) <= 5
    assert KEY not in repr(raised.value) + repr(reporter)


@contextmanager
def fake_server(*responses: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that sends these responses in order, and repeats the last one."""
    left, seen = list(responses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for header in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def report_to(base_url: str, clock: FakeClock) -> dict[str, Any]:
    reporter = HttpReporter(base_url, KEY, clock=clock.time, sleep=clock.sleep)
    return reporter.progress("the job", "file_000", 10)


def test_retry_after_sets_the_delay() -> None:
    clock = FakeClock()
    busy = (503, {"Retry-After": "7"}, b"")
    with fake_server(busy, (429, {}, b""), (200, {}, b"{}")) as (base_url, seen):
        report_to(base_url, clock)
    assert clock.sleeps[0] == 7
    assert clock.sleeps[1] < 1
    assert seen == ["/api/v1/jobs/the%20job/files/file_000/progress"] * 3


def test_a_retry_after_beyond_the_deadline_fails_at_once() -> None:
    clock = FakeClock()
    problem = {"error_code": "REDIS_UNAVAILABLE", "detail": "come back later"}
    busy = (503, {"Retry-After": "3600"}, json.dumps(problem).encode())
    with fake_server(busy) as (base_url, _), pytest.raises(GatewayUnavailable) as raised:
        report_to(base_url, clock)
    assert raised.value.code == "REDIS_UNAVAILABLE"
    assert clock.sleeps == []


def test_a_broken_connection_is_retried() -> None:
    clock = FakeClock()
    broken = (200, {"Content-Length": "100"}, b"{")
    with fake_server(broken, (200, {}, b'{"recorded":1}')) as (base_url, _):
        assert report_to(base_url, clock) == {"recorded": 1}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ((404, {}, b"<html>not found</html>"), "HTTP_404"),
        ((302, {"Location": "/elsewhere"}, b""), "HTTP_302"),
        ((200, {}, b"<html>welcome</html>"), "INVALID_RESPONSE"),
        ((400, {}, b'["no", "problem"]'), "HTTP_400"),
    ],
    ids=["page", "redirect", "not the gateway", "not an object"],
)
def test_an_unexpected_response_is_an_error(
    response: tuple[int, dict[str, str], bytes], code: str
) -> None:
    clock = FakeClock()
    with fake_server(response) as (base_url, seen), pytest.raises(GatewayError) as raised:
        report_to(base_url, clock)
    assert raised.value.code == code
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("base_url", "key"),
    [("file:///etc", KEY), ("gateway", KEY), ("http://gateway", ""), ("http://gateway", "a\nb")],
)
def test_invalid_arguments_are_rejected_at_once(base_url: str, key: str) -> None:
    with pytest.raises(ValueError, match="base_url|key") as raised:
        HttpReporter(base_url, key)
    assert not key or key not in str(raised.value)
