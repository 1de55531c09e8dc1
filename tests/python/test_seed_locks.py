"""The seed's RedisLock and the gateway's locks on one Redis exclude each other."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from seed import LockAcquisitionError, RedisLock, connect
from servers import TIMEOUT_SECS, RedisServer, running_gateway

JOBS_DB = 1
Body = dict[str, Any]


class Gateway:
    """The gateway's locks over HTTP."""

    def __init__(self, base_url: str, server: RedisServer) -> None:
        self.base_url = base_url
        self.server = server

    def call(self, method: str, resource: str, body: Body | None = None) -> tuple[int, Body]:
        request = urllib.request.Request(
            f"{self.base_url}/api/v1/locks/{resource}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "Bearer key", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
                return response.status, json.loads(response.read() or "{}")
        except urllib.error.HTTPError as http_error:
            with http_error:
                return http_error.code, json.load(http_error)

    def acquire(self, resource: str, ttl: int = 30, wait: int = 0) -> tuple[int, Body]:
        return self.call("POST", resource, {"ttl_secs": ttl, "wait_secs": wait})

    def release(self, resource: str, token: str) -> int:
        return self.call("DELETE", f"{resource}?token={token}")[0]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    settings = {"I2M__LOCKS__CHECK_INTERVAL": "20ms"}
    with (
        RedisServer.start() as server,
        running_gateway(server.gateway_url, log, **settings) as base_url,
    ):
        yield Gateway(base_url, server)


def test_a_lock_of_the_seed_excludes_the_gateway(gateway: Gateway) -> None:
    async def run() -> None:
        async with connect(str(gateway.server.socket), JOBS_DB) as client:
            lock = RedisLock(client)
            async with lock.acquire_lock("job:1", timeout=30) as token:
                status, problem = gateway.acquire("job:1")
                assert (status, problem["error_code"]) == (409, "LOCK_UNAVAILABLE")
                # A client with the token can extend the lock over HTTP.
                status, extended = gateway.call("PATCH", "job:1", {"token": token, "ttl_secs": 60})
                assert (status, extended["token"]) == (200, token)
                assert 50 < await client.ttl("lock:job:1") <= 60
                waiting = asyncio.create_task(asyncio.to_thread(gateway.acquire, "job:1", 30, 8))
                # The gateway waits, because the seed still holds the lock.
                await asyncio.sleep(0.2)
                assert not waiting.done() and await client.get("lock:job:1") == token
            released = time.monotonic()
            status, held = await waiting
            assert (status, await client.get("lock:job:1")) == (201, held["token"])
            assert time.monotonic() - released < 3
            assert gateway.release("job:1", held["token"]) == 204

    asyncio.run(run())


def test_a_lock_of_the_gateway_excludes_the_seed(gateway: Gateway) -> None:
    async def run() -> None:
        async with connect(str(gateway.server.socket), JOBS_DB) as client:
            lock = RedisLock(client)
            status, held = gateway.acquire("job:2")
            assert status == 201
            with pytest.raises(LockAcquisitionError):
                async with lock.acquire_lock("job:2", blocking=False):
                    pass
            assert not await lock.extend_lock("job:2", "wrong token", 60)
            assert await lock.extend_lock("job:2", held["token"], 60)

            async def wait() -> str:
                async with lock.acquire_lock("job:2", blocking_timeout=10) as token:
                    return token

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.15)
            assert gateway.release("job:2", held["token"]) == 204
            assert await waiting != held["token"]
            assert await client.get("lock:job:2") is None

    asyncio.run(run())


def test_the_seed_and_the_gateway_take_turns(gateway: Gateway) -> None:
    """Two holders of each kind lock ten times: never two at once, and with increasing fencing tokens."""
    inside: list[str] = []
    fencing_tokens: list[int] = []

    async def enter(name: str, fencing_token: int | None) -> None:
        assert inside == []
        inside.append(name)
        await asyncio.sleep(0)
        inside.remove(name)
        if fencing_token is not None:
            fencing_tokens.append(fencing_token)

    async def lock_with_seed(lock: RedisLock) -> None:
        for _ in range(10):
            async with lock.acquire_lock("file:3", blocking_timeout=60):
                await enter("seed", None)

    async def lock_over_http() -> None:
        for _ in range(10):
            status, held = 409, {}
            # A slow machine may need more than one attempt.
            while status == 409:
                status, held = await asyncio.to_thread(gateway.acquire, "file:3", 30, 8)
            assert status == 201, held
            await enter("gateway", held["fencing_token"])
            released = await asyncio.to_thread(gateway.release, "file:3", held["token"])
            assert released == 204

    async def run() -> None:
        async with connect(str(gateway.server.socket), JOBS_DB) as client:
            lock = RedisLock(client)
            holders = [lock_with_seed(lock), lock_with_seed(lock), lock_over_http(), lock_over_http()]
            await asyncio.gather(*holders)

    asyncio.run(run())
    assert len(fencing_tokens) == 20
    assert fencing_tokens == sorted(set(fencing_tokens))
