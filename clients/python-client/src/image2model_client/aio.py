"""The client for asyncio; `client` has the same for threads."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, AsyncIterator, Iterable, Mapping, Optional, Type, cast

import httpx

from . import calls
from .calls import Call, FileLike
from .client import STREAM_TIMEOUT, TIMEOUT
from .errors import GatewayError, LockLost, error_of
from .events import Event, Parser, Place
from .locks import HeldLock, late
from .models import Job, JobPage, JobProgress, JobSummary, Lock, RateLimits, StoredModel
from .trying import Reconnecting, Trying


class AsyncClient:
    """Calls the gateway at `base_url`. May be shared by tasks.

    While the gateway is away, or asks to come back later, a call is tried again for at most `retry_for` seconds
    as far as that is safe. Raises `GatewayError` or one of its kinds.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        retry_for: float = 30.0,
        http: Optional[httpx.AsyncClient] = None,
    ) -> None:
        if not key.strip():
            raise ValueError("the key is empty")
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._retry_for = retry_for
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create_job(
        self,
        files: Iterable[FileLike],
        params: Optional[Mapping[str, Any]] = None,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Job:
        """Creates a job of `files`, names or more; once, however often it has to be sent."""
        return cast(Job, await self._send(calls.create(files, params, idempotency_key)))

    async def job(self, job_id: str) -> Job:
        return cast(Job, await self._send(calls.of_job("GET", job_id)))

    async def list_jobs(
        self,
        *,
        status: Optional[str] = None,
        created_after: Optional[str] = None,
        limit: int = 20,
        cursor: Optional[str] = None,
    ) -> JobPage:
        """One page of the caller's jobs, newest first."""
        return cast(JobPage, await self._send(calls.listing(status, created_after, limit, cursor)))

    async def jobs(self, *, status: Optional[str] = None) -> AsyncIterator[JobSummary]:
        """All of the caller's jobs, newest first, page by page."""
        cursor: Optional[str] = None
        while True:
            page = await self.list_jobs(status=status, limit=100, cursor=cursor)
            for job in page["jobs"]:
                yield job
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    async def progress(self, job_id: str) -> JobProgress:
        return cast(JobProgress, await self._send(calls.of_job("GET", job_id, "/progress")))

    async def downloads(self, job_id: str) -> Mapping[str, Any]:
        """The finished files of a job: `files`, and `download_urls` in the same order."""
        return cast(Mapping[str, Any], await self._send(calls.downloads(job_id)))

    async def cancel(self, job_id: str) -> str:
        """Cancels a job; its status then, `cancelling` while a worker is still at it."""
        return str((await self._send(calls.of_job("POST", job_id, "/cancel")))["status"])

    async def retry(self, job_id: str) -> Job:
        """Has the failed files tried again."""
        return cast(Job, await self._send(calls.of_job("POST", job_id, "/retry")))

    async def delete(self, job_id: str) -> None:
        await self._send(calls.of_job("DELETE", job_id))

    async def rate_limits(self) -> RateLimits:
        """How the caller stands with each limit; asking does not count."""
        return cast(RateLimits, await self._send(calls.rate_limits()))

    @asynccontextmanager
    async def lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> AsyncIterator[HeldLock]:
        """Holds a lock such as `job:ID` while the block runs, renewing it; `ttl` and `wait` are seconds.

        When it is lost, the block is cancelled, and `LockLost` raised in its place.
        """
        lock = await self.acquire_lock(resource, ttl=ttl, wait=wait)
        held = HeldLock(lock, ttl)
        block = asyncio.current_task()
        assert block is not None
        renewing = asyncio.ensure_future(self._renew(held, lock, ttl, block))
        try:
            try:
                yield held
            finally:
                renewing.cancel()
                # What cannot be given back ends by itself.
                with suppress(GatewayError):
                    await self.release_lock(lock)
        except asyncio.CancelledError:
            if held.loss is None:
                raise
            # Only the block was to be cancelled; its task goes on. Python before 3.11 does not count.
            getattr(block, "uncancel", lambda: None)()
            raise held.loss from None
        held.raise_if_lost()

    async def _renew(self, held: HeldLock, lock: Lock, ttl: int, block: asyncio.Task[Any]) -> None:
        while held.loss is None:
            await asyncio.sleep(held.until_renewal())
            asked_at = time.monotonic()
            left = held.end - asked_at
            try:
                await asyncio.wait_for(self.extend_lock(lock, ttl=ttl), left)
            except LockLost as error:
                held.lose(error)
            except (GatewayError, asyncio.TimeoutError):
                if held.is_lost:
                    held.lose(late(held.resource))
            else:
                held.renewed(asked_at)
        block.cancel()

    async def acquire_lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> Lock:
        """Takes a lock such as `job:ID`; `ttl` and `wait` are seconds."""
        return cast(Lock, await self._send(calls.acquire(resource, ttl, wait)))

    async def extend_lock(self, lock: Lock, *, ttl: int = 30) -> Lock:
        """Keeps a lock for `ttl` seconds from now."""
        return cast(Lock, await self._send(calls.extend(lock["resource"], lock["token"], ttl)))

    async def release_lock(self, lock: Lock) -> None:
        await self._send(calls.release(lock["resource"], lock["token"]))

    async def model(self, model_id: str) -> Any:
        """What is known of a model."""
        return await self._send(calls.model("GET", model_id))

    async def put_model(
        self, model_id: str, data: Any, *, ttl: Optional[int] = None, tags: Iterable[str] = ()
    ) -> StoredModel:
        """Stores what is known of a model, for `ttl` seconds and by its tags."""
        call = calls.model("PUT", model_id, calls.store(data, ttl, tags))
        return cast(StoredModel, await self._send(call))

    async def delete_model(self, model_id: str) -> None:
        await self._send(calls.model("DELETE", model_id))

    async def invalidate(self, *, tag: Optional[str] = None, pattern: Optional[str] = None) -> int:
        """Removes cached values, and says how many there were; for admins."""
        answer = await self._send(calls.invalidate(tag, pattern))
        return int(answer["removed"])

    async def follow(
        self,
        *job_ids: str,
        last_event_id: Optional[str] = None,
        give_up_after: float = 60.0,
    ) -> AsyncIterator[Event]:
        """The events of one job, or of up to 100, until all are over.

        Comes back by itself where it was cut off, without loss or repeat, and gives up when the gateway could not
        be reached for `give_up_after` seconds.
        """
        place = Place(job_ids, last_event_id)
        coming_back = Reconnecting(give_up_after)
        while not place.is_over:
            failed: Optional[Exception] = None
            try:
                headers = {**self._headers, **place.headers()}
                url = f"{self._base_url}{place.path()}"
                async with self._http.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code != 200:
                        await answer.aread()
                        raise error_of(answer)
                    parser = Parser()
                    async for line in answer.aiter_lines():
                        coming_back.contact()
                        for event in place.take(parser, line):
                            yield event
            except httpx.TransportError as error:
                failed = error
            if not place.is_over:
                await asyncio.sleep(coming_back.after(place.retry, failed))

    async def wait(self, job_id: str, *, give_up_after: float = 60.0) -> Job:
        """Waits until a job is over, and reads it."""
        async for _ in self.follow(job_id, give_up_after=give_up_after):
            pass
        return await self.job(job_id)

    async def _send(self, call: Call) -> Any:
        trying = Trying(call, self._retry_for)
        while True:
            try:
                answer = await self._http.request(
                    call.method,
                    f"{self._base_url}{call.path}",
                    json=call.json,
                    params=calls.encode_query(call.params),
                    headers={**self._headers, **call.headers},
                )
            except httpx.TransportError as error:
                wait = trying.after_error(error)
            else:
                if answer.is_success:
                    return answer.json() if answer.content else {}
                wait = trying.after_answer(answer)
            await asyncio.sleep(wait)
