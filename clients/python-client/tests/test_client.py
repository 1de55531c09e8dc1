"""The blocking and the asyncio client against the real gateway, with the same tests."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import KEY, Gateway
from image2model_client import (
    AsyncClient,
    Client,
    GatewayError,
    GatewayUnavailable,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    PermissionDenied,
)


class BlockingAdapter:
    """Wraps an asyncio client so that its methods block."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._result(method(*args, **options))

    def _result(self, awaited: Any) -> Any:
        if not hasattr(awaited, "__aiter__"):
            return self._loop.run_until_complete(awaited)

        async def collect() -> list[Any]:
            return [item async for item in awaited]

        return self._loop.run_until_complete(collect())

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def client(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Any]:
    if request.param == "threads":
        client: Any = Client(gateway.base_url, KEY, retry_for=5)
    else:
        client = BlockingAdapter(AsyncClient(gateway.base_url, KEY, retry_for=5))
    yield client
    client.close()


def test_a_job_from_creation_to_download(client: Any, gateway: Gateway) -> None:
    job = client.create_job(["chair.png", {"filename": "mug.png", "size": 9}], {"quality": "high"})
    assert job["status"] == "pending"
    assert [file["filename"] for file in job["files"]] == ["chair.png", "mug.png"]
    assert client.job(job["job_id"])["params"] == {"quality": "high"}
    assert job["job_id"] in [listed["job_id"] for listed in client.jobs(status="pending")]

    gateway.report(job["job_id"], 40)
    assert client.progress(job["job_id"])["overall_progress"] == 20
    gateway.complete(job["job_id"], "file_000")
    gateway.fail(job["job_id"], "file_001")
    assert client.wait(job["job_id"])["status"] == "partial"
    assert client.downloads(job["job_id"])["download_urls"] == ["https://models.example/chair.glb"]

    again = client.retry(job["job_id"])
    assert (again["status"], again["attempt"]) == ("pending", 2)
    assert client.cancel(job["job_id"]) in ("cancelled", "cancelling")
    client.delete(job["job_id"])
    with pytest.raises(JobNotFound):
        client.job(job["job_id"])


def test_a_reconnecting_stream_neither_loses_nor_repeats_events(
    client: Any, gateway: Gateway
) -> None:
    job_id = client.create_job(["chair.png"])["job_id"]
    percents = list(range(1, 25))

    def work() -> None:
        for percent in percents:
            gateway.report(job_id, percent)
            # Lasts over two seconds, and therefore spans three connections.
            threading.Event().wait(0.1)
        gateway.complete(job_id)

    worker = threading.Thread(target=work)
    worker.start()
    # Starts before the first event, even if the worker has already begun.
    events = list(client.follow(job_id, last_event_id="0-0"))
    worker.join()
    updates = [event.data["file_progress"] for event in events if event.name == "file_update"]
    assert updates == [*percents, 100]
    assert (events[-1].name, events[-1].job_id) == ("task_completed", job_id)
    ids = [event.id for event in events if event.id and event.name == "file_update"]
    assert len(set(ids)) == len(ids)


def test_one_stream_follows_many_jobs(client: Any, gateway: Gateway) -> None:
    jobs = [client.create_job([f"{i}.png"])["job_id"] for i in range(3)]
    for job_id in jobs[:2]:
        gateway.complete(job_id)
    gateway.fail(jobs[2])
    ends = {event.job_id: event.name for event in client.follow(*jobs) if event.is_last}
    assert ends == {jobs[0]: "task_completed", jobs[1]: "task_completed", jobs[2]: "task_failed"}


def test_a_resumed_stream_does_not_repeat_the_last_event(client: Any, gateway: Gateway) -> None:
    job_id = client.create_job(["chair.png"])["job_id"]
    gateway.complete(job_id)
    last = list(client.follow(job_id))[-1]
    assert list(client.follow(job_id, last_event_id=last.id)) == []


def test_a_repeated_request_creates_one_job(client: Any) -> None:
    key = str(uuid.uuid4())
    first = client.create_job(["chair.png"], idempotency_key=key)
    assert client.create_job(["chair.png"], idempotency_key=key)["job_id"] == first["job_id"]
    with pytest.raises(InvalidRequest) as caught:
        client.create_job(["mug.png"], idempotency_key=key)
    assert caught.value.code == "IDEMPOTENCY_CONFLICT"


def test_errors_carry_code_status_and_detail(client: Any) -> None:
    with pytest.raises(InvalidRequest, match="filename") as caught:
        client.create_job(["../chair.png"])
    assert (caught.value.code, caught.value.http_status) == ("VALIDATION_ERROR", 422)
    assert caught.value.request_id
    with pytest.raises(JobNotFound):
        list(client.follow(str(uuid.uuid4())))
    job_id = client.create_job(["chair.png"])["job_id"]
    with pytest.raises(InvalidTransition):
        client.retry(job_id)


def test_rate_limits_are_reported(client: Any) -> None:
    limits = client.rate_limits()
    assert limits["enforced"] is True
    assert all(policy["remaining"] <= policy["limit"] for policy in limits["policies"])


def test_an_unreachable_gateway_fails_after_the_retries() -> None:
    with Client("http://127.0.0.1:1", KEY, retry_for=0.3) as client:
        with pytest.raises(GatewayUnavailable):
            client.job(str(uuid.uuid4()))
        with pytest.raises(GatewayUnavailable):
            list(client.follow(str(uuid.uuid4()), give_up_after=0.1))


def test_rejected_requests_are_retried_and_unsafe_repeats_are_not() -> None:
    responses = iter([503, 429, 200, 502])

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(responses), json={"job_id": "x", "status": "cancelled"})

    http = httpx.Client(transport=httpx.MockTransport(respond))
    with Client("http://gateway", KEY, http=http) as client:
        assert client.cancel("x") == "cancelled"
        with pytest.raises(GatewayUnavailable):
            client.cancel("x")


def test_an_api_key_is_required(gateway: Gateway) -> None:
    with pytest.raises(ValueError, match="key"):
        Client(gateway.base_url, "")

    def drop_key(request: httpx.Request) -> None:
        del request.headers["authorization"]

    http = httpx.Client(event_hooks={"request": [drop_key]})
    with Client(gateway.base_url, KEY, http=http) as client, pytest.raises(PermissionDenied) as caught:
        client.rate_limits()
    assert isinstance(caught.value, GatewayError)
    assert caught.value.detail == "Not authenticated"
