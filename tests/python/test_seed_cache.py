"""The seed's RedisCache and the gateway's cached models share one Redis and read each other's values."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from seed import RedisCache, RedisKeys, connect
from servers import TIMEOUT_SECS, RedisServer, running_gateway

# Raised by the seed's code: redis-py 8 deprecates SETEX.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CACHE_DB = 4
Body = dict[str, Any]


class Gateway:
    """The gateway's models over HTTP."""

    def __init__(self, base_url: str, server: RedisServer) -> None:
        self.base_url = base_url
        self.server = server

    def call(self, method: str, path: str, body: Body | None = None) -> tuple[int, str, Any]:
        """Returns the status, `X-Cache` and the body."""
        request = urllib.request.Request(
            f"{self.base_url}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "Bearer key", "Content-Type": "application/json"},
        )
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_SECS)
        except urllib.error.HTTPError as http_error:
            response = http_error
        with response:
            body = json.loads(response.read() or "null")
            return response.status, response.headers.get("X-Cache", ""), body

    def put(self, model: str, data: Any, *tags: str) -> None:
        body = {"data": data, "ttl_secs": 100, "tags": list(tags)}
        assert self.call("PUT", f"models/{model}", body)[0] == 200

    def invalidate(self, tag: str) -> int:
        return self.call("POST", "admin/cache/invalidate", {"tag": tag})[2]["removed"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    with (
        RedisServer.start() as server,
        running_gateway(server.gateway_url, log) as base_url,
    ):
        yield Gateway(base_url, server)


def seed_on(gateway: Gateway) -> Redis:
    return connect(str(gateway.server.socket), CACHE_DB)


def model_key(model: str) -> str:
    return RedisKeys.format_key(RedisKeys.CACHE_MODEL, model_id=model)


async def must_not_run() -> Any:
    raise AssertionError("the value is cached, so the factory must not run")


def test_a_model_stored_over_http_is_a_hit_for_the_seed(gateway: Gateway) -> None:
    data = {"vertices": 8123, "name": "Stuhl ä", "parts": [1, 2.5, None, True]}
    gateway.put("a", data)

    async def run() -> None:
        async with seed_on(gateway) as client:
            cache = RedisCache(client)
            assert await cache.get_or_set(model_key("a"), must_not_run) == data
            # The seed changes the TTL, and the gateway still serves the value.
            assert await cache.get_or_set(model_key("a"), must_not_run, 500, True) == data

    asyncio.run(run())
    assert gateway.call("GET", "models/a") == (200, "hit", data)


def test_a_value_stored_by_the_seed_is_a_hit_over_http(gateway: Gateway) -> None:
    data = {"vertices": 42, "name": "Stuhl ä"}
    assert gateway.call("GET", "models/b")[:2] == (404, "miss")

    async def compute() -> Any:
        return data

    async def run() -> None:
        async with seed_on(gateway) as client:
            assert await RedisCache(client).get_or_set(model_key("b"), compute) == data

    asyncio.run(run())
    assert gateway.call("GET", "models/b") == (200, "hit", data)
    assert gateway.call("DELETE", "models/b")[0] == 204
    assert gateway.call("GET", "models/b")[:2] == (404, "miss")


def test_both_invalidate_tags(gateway: Gateway) -> None:
    async def run() -> None:
        async with seed_on(gateway) as client:
            cache = RedisCache(client)
            gateway.put("long", 1, "t")
            await cache.cache_with_tags(model_key("seeds"), 2, 50, ["t", "u"])
            gateway.put("other", 3, "u")
            # The seed counts the members of its set, which include the gateway's key.
            assert await cache.invalidate_tag("t") == 2
            assert gateway.call("GET", "models/long")[:2] == (404, "miss")

            # A key stored again without the tag stays; the seed's key is invalidated by its remaining tag.
            gateway.put("long", 4)
            await cache.cache_with_tags(model_key("seeds"), 5, 50, ["u"])
            assert gateway.invalidate("t") == 0
            assert gateway.invalidate("u") == 2
            assert gateway.call("GET", "models/long") == (200, "hit", 4)
            assert await client.exists(model_key("seeds"), model_key("other")) == 0

            # Defect 45: the seed gives the set the TTL of its last member. The gateway still invalidates its key.
            gateway.put("long", 6, "t")
            await cache.cache_with_tags(model_key("short"), 7, 1, ["t"])
            while await client.exists("tag:t"):
                await asyncio.sleep(0.05)
            assert gateway.invalidate("t") == 1

    asyncio.run(run())
    assert gateway.call("GET", "models/long")[:2] == (404, "miss")
