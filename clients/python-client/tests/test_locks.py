"""Locks and models with both clients against the real gateway."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from conftest import KEY, Gateway
from image2model_client import AsyncClient, Client, GatewayError, HeldLock, Lock, LockLost, LockUnavailable


def new_resource() -> str:
    return f"job:{uuid.uuid4()}"


def as_lock(lock: HeldLock) -> Lock:
    """A `Lock` with which code outside the block can release `lock`."""
    return {"resource": lock.resource, "token": lock.token, "fencing_token": 0, "expires_at": ""}


def test_locks_exclude_each_other(gateway: Gateway) -> None:
    resource = new_resource()
    with Client(gateway.base_url, KEY) as client:
        with client.lock(resource) as lock:
            with pytest.raises(LockUnavailable), client.lock(resource):
                pass
        with client.lock(resource) as later:
            assert later.fencing_token > lock.fencing_token


def test_a_lock_can_be_acquired_extended_and_released(gateway: Gateway) -> None:
    resource = new_resource()
    with Client(gateway.base_url, KEY) as client:
        lock = client.acquire_lock(resource, ttl=20)
        assert client.extend_lock(lock, ttl=60)["expires_at"] > lock["expires_at"]
        client.release_lock(lock)
        with pytest.raises(LockLost):
            client.release_lock(lock)


def test_a_lock_is_renewed_while_the_block_runs(gateway: Gateway) -> None:
    resource = new_resource()
    with Client(gateway.base_url, KEY) as client:
        with client.lock(resource, ttl=1) as lock:
            # Longer than the TTL.
            time.sleep(2.5)
            lock.raise_if_lost()
            with pytest.raises(LockUnavailable):
                client.acquire_lock(resource)
        client.acquire_lock(resource)


def test_a_lost_lock_raises_lock_lost(gateway: Gateway) -> None:
    resource = new_resource()
    with Client(gateway.base_url, KEY) as client, pytest.raises(LockLost):
        with client.lock(resource, ttl=3) as lock:
            client.release_lock(as_lock(lock))
            client.acquire_lock(resource)
            until_lost = time.monotonic() + 20
            while not lock.is_lost:
                assert time.monotonic() < until_lost
                time.sleep(0.01)


def test_an_exception_in_the_block_propagates_and_releases_the_lock(gateway: Gateway) -> None:
    resource = new_resource()
    with Client(gateway.base_url, KEY) as client:
        with pytest.raises(ValueError, match="no mesh"), client.lock(resource):
            raise ValueError("no mesh")
        client.acquire_lock(resource)


def test_the_asyncio_client_renews_locks(gateway: Gateway) -> None:
    async def hold() -> None:
        resource = new_resource()
        async with AsyncClient(gateway.base_url, KEY) as client:
            async with client.lock(resource, ttl=1) as lock:
                await asyncio.sleep(2.5)
                with pytest.raises(LockUnavailable):
                    await client.acquire_lock(resource)
            later = await client.acquire_lock(resource)
            assert later["fencing_token"] > lock.fencing_token

    asyncio.run(hold())


def test_the_asyncio_client_cancels_a_block_whose_lock_is_lost(gateway: Gateway) -> None:
    async def lose() -> None:
        resource = new_resource()
        async with AsyncClient(gateway.base_url, KEY) as client:
            with pytest.raises(LockLost):
                async with client.lock(resource, ttl=3) as lock:
                    await client.release_lock(as_lock(lock))
                    await client.acquire_lock(resource)
                    await asyncio.sleep(60)
            # The task is not cancelled, only the block.
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(lose(), 20))


def test_cancelling_the_task_releases_the_lock(gateway: Gateway) -> None:
    async def cancel() -> None:
        resource = new_resource()
        async with AsyncClient(gateway.base_url, KEY) as client:
            held = asyncio.Event()

            async def work() -> None:
                async with client.lock(resource):
                    held.set()
                    await asyncio.sleep(60)

            task = asyncio.ensure_future(work())
            await asyncio.wait_for(held.wait(), 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.acquire_lock(resource)

    asyncio.run(cancel())


def test_models_are_cached_and_removed(gateway: Gateway) -> None:
    model = f"chair-{uuid.uuid4()}"
    with Client(gateway.base_url, KEY) as client:
        stored = client.put_model(model, {"vertices": 8123}, ttl=300, tags=["furniture"])
        assert stored["tags"] == ["furniture"]
        assert client.model(model) == {"vertices": 8123}
        assert client.invalidate(tag="furniture") == 1
        with pytest.raises(GatewayError, match="MODEL_NOT_FOUND"):
            client.model(model)
        client.put_model(model, [1])
        client.delete_model(model)
        with pytest.raises(GatewayError, match="MODEL_NOT_FOUND"):
            client.model(model)


def test_the_asyncio_client_caches_models(gateway: Gateway) -> None:
    async def use() -> None:
        model = f"chair-{uuid.uuid4()}"
        async with AsyncClient(gateway.base_url, KEY) as client:
            await client.put_model(model, 1)
            assert await client.model(model) == 1
            await client.delete_model(model)
            assert await client.invalidate(pattern=f"cache:model:{model}") == 0

    asyncio.run(use())
