"""The seed's RedisCache and the gateway's cached models on one Redis: each reads what the other writes."""

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

# The seed's own: redis-py 8 would rather see SET with EX.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CACHE_DB = 4
Body = dict[str, Any]


class Gateway:
    """Its models over HTTP."""

    def __init__(self, base_url: str, server: RedisServer) -> None:
        self.base_url = base_url
        self.server = server

    def call(self, method: str, path: str, body: Body | None = None) -> tuple[int, str, Any]:
        """Status, `X-Cache` and body."""
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
    raise AssertionError("it is cached")


def test_a_model_over_http_is_a_hit_for_the_seed(gateway: Gateway) -> None:
    data = {"vertices": 8123, "name": "Stuhl ä", "parts": [1, 2.5, None, True]}
    gateway.put("a", data)

    async def run() -> None:
        async with seed_on(gateway) as client:
            cache = RedisCache(client)
            assert await cache.get_or_set(model_key("a"), must_not_run) == data
            # The seed gives it another end, and we still take it for what it is.
            assert await cache.get_or_set(model_key("a"), must_not_run, 500, True) == data

    asyncio.run(run())
    assert gateway.call("GET", "models/a") == (200, "hit", data)


def test_a_value_of_the_seed_is_a_hit_over_http(gateway: Gateway) -> None:
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


def test_tags_are_invalidated_by_either(gateway: Gateway) -> None:
    async def run() -> None:
        async with seed_on(gateway) as client:
            cache = RedisCache(client)
            gateway.put("long", 1, "t")
            await cache.cache_with_tags(model_key("seeds"), 2, 50, ["t", "u"])
            gateway.put("other", 3, "u")
            # The seed counts its set, and finds ours there.
            assert await cache.invalidate_tag("t") == 2
            assert gateway.call("GET", "models/long")[:2] == (404, "miss")

            # What is stored again without the tag stays; the seed's own goes with what tag it has left.
            gateway.put("long", 4)
            await cache.cache_with_tags(model_key("seeds"), 5, 50, ["u"])
            assert gateway.invalidate("t") == 0
            assert gateway.invalidate("u") == 2
            assert gateway.call("GET", "models/long") == (200, "hit", 4)
            assert await client.exists(model_key("seeds"), model_key("other")) == 0

            # Defect 45: the seed gives the set the time of its last member. Ours is not missed.
            gateway.put("long", 6, "t")
            await cache.cache_with_tags(model_key("short"), 7, 1, ["t"])
            while await client.exists("tag:t"):
                await asyncio.sleep(0.05)
            assert gateway.invalidate("t") == 1

    asyncio.run(run())
    assert gateway.call("GET", "models/long")[:2] == (404, "miss")
