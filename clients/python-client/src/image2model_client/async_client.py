"""The asyncio client. `client` has the same methods for threads."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, AsyncIterator, Iterable, Mapping, Optional, Type, cast

import httpx

from . import _requests
from ._requests import ApiRequest, FileLike
from .client import STREAM_TIMEOUT, TIMEOUT
from .errors import GatewayError, LockLost, error_from_response
from .events import Event, Parser, StreamCursor
from .locks import HeldLock, renewal_timed_out
from .models import Job, JobPage, JobProgress, JobSummary, Lock, RateLimits, StoredModel
from .retry import ReconnectPolicy, RetryPolicy


class AsyncClient:
    """An asyncio client of the gateway at `base_url`. Tasks may share one instance.

    A request that fails because the gateway is unreachable or overloaded is retried for up to `retry_for` seconds, if
    repeating it is safe. Methods raise `GatewayError` or one of its subclasses.
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
            raise ValueError("key must not be empty")
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._retry_for = retry_for
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
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
        """Creates one job with `files`: names or `NewFile` dicts. A retried request does not create a second job."""
        return cast(Job, await self._send(_requests.create_job(files, params, idempotency_key)))

    async def job(self, job_id: str) -> Job:
        return cast(Job, await self._send(_requests.job("GET", job_id)))

    async def list_jobs(
        self,
        *,
        status: Optional[str] = None,
        created_after: Optional[str] = None,
        limit: int = 20,
        cursor: Optional[str] = None,
    ) -> JobPage:
        """Returns one page of the caller's jobs, newest first."""
        return cast(JobPage, await self._send(_requests.list_jobs(status, created_after, limit, cursor)))

    async def jobs(self, *, status: Optional[str] = None) -> AsyncIterator[JobSummary]:
        """Yields all of the caller's jobs, newest first, fetching one page at a time."""
        cursor: Optional[str] = None
        while True:
            page = await self.list_jobs(status=status, limit=100, cursor=cursor)
            for job in page["jobs"]:
                yield job
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    async def progress(self, job_id: str) -> JobProgress:
        return cast(JobProgress, await self._send(_requests.job("GET", job_id, "/progress")))

    async def downloads(self, job_id: str) -> Mapping[str, Any]:
        """Returns the finished files of a job: `files`, and `download_urls` in the same order."""
        return cast(Mapping[str, Any], await self._send(_requests.downloads(job_id)))

    async def cancel(self, job_id: str) -> str:
        """Cancels a job and returns its new status, which is `cancelling` while a worker still processes it."""
        return str((await self._send(_requests.job("POST", job_id, "/cancel")))["status"])

    async def retry(self, job_id: str) -> Job:
        """Retries the failed files of a job."""
        return cast(Job, await self._send(_requests.job("POST", job_id, "/retry")))

    async def delete(self, job_id: str) -> None:
        await self._send(_requests.job("DELETE", job_id))

    async def rate_limits(self) -> RateLimits:
        """Returns the caller's rate limits and their remaining requests. This request does not count."""
        return cast(RateLimits, await self._send(_requests.rate_limits()))

    @asynccontextmanager
    async def lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> AsyncIterator[HeldLock]:
        """Holds a lock such as `job:ID` while the block runs, and renews it. `ttl` and `wait` are in seconds.

        When the lock is lost, the block is cancelled and `LockLost` is raised.
        """
        lock = await self.acquire_lock(resource, ttl=ttl, wait=wait)
        held = HeldLock(lock, ttl)
        task = asyncio.current_task()
        assert task is not None
        renewal = asyncio.ensure_future(self._renew(held, lock, ttl, task))
        try:
            try:
                yield held
            finally:
                renewal.cancel()
                # A lock that cannot be released expires after its TTL.
                with suppress(GatewayError):
                    await self.release_lock(lock)
        except asyncio.CancelledError:
            if held.loss_error is None:
                raise
            # The cancellation was for the block, not for its task. Python before 3.11 does not count cancellations.
            getattr(task, "uncancel", lambda: None)()
            raise held.loss_error from None
        held.raise_if_lost()

    async def _renew(self, held: HeldLock, lock: Lock, ttl: int, task: asyncio.Task[Any]) -> None:
        while held.loss_error is None:
            await asyncio.sleep(held.secs_until_renewal())
            requested_at = time.monotonic()
            remaining = held.deadline - requested_at
            try:
                await asyncio.wait_for(self.extend_lock(lock, ttl=ttl), remaining)
            except LockLost as error:
                held.mark_lost(error)
            except (GatewayError, asyncio.TimeoutError):
                if held.is_lost:
                    held.mark_lost(renewal_timed_out(held.resource))
            else:
                held.mark_renewed(requested_at)
        task.cancel()

    async def acquire_lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> Lock:
        """Acquires a lock such as `job:ID`. `ttl` and `wait` are in seconds."""
        return cast(Lock, await self._send(_requests.acquire_lock(resource, ttl, wait)))

    async def extend_lock(self, lock: Lock, *, ttl: int = 30) -> Lock:
        """Extends a lock to `ttl` seconds from now."""
        return cast(Lock, await self._send(_requests.extend_lock(lock["resource"], lock["token"], ttl)))

    async def release_lock(self, lock: Lock) -> None:
        await self._send(_requests.release_lock(lock["resource"], lock["token"]))

    async def model(self, model_id: str) -> Any:
        """Returns the cached data of a model."""
        return await self._send(_requests.model("GET", model_id))

    async def put_model(
        self, model_id: str, data: Any, *, ttl: Optional[int] = None, tags: Iterable[str] = ()
    ) -> StoredModel:
        """Caches the data of a model for `ttl` seconds under `tags`."""
        request = _requests.model("PUT", model_id, _requests.model_body(data, ttl, tags))
        return cast(StoredModel, await self._send(request))

    async def delete_model(self, model_id: str) -> None:
        await self._send(_requests.model("DELETE", model_id))

    async def invalidate(self, *, tag: Optional[str] = None, pattern: Optional[str] = None) -> int:
        """Removes cached values by tag or pattern and returns their count. Needs the admin role."""
        response = await self._send(_requests.invalidate(tag, pattern))
        return int(response["removed"])

    async def follow(
        self,
        *job_ids: str,
        last_event_id: Optional[str] = None,
        give_up_after: float = 60.0,
    ) -> AsyncIterator[Event]:
        """Yields the events of up to 100 jobs until all of them have ended.

        A broken connection is reopened after the last event, without lost or repeated events. If the gateway is
        unreachable for `give_up_after` seconds, `GatewayUnavailable` is raised.
        """
        cursor = StreamCursor(job_ids, last_event_id)
        backoff = ReconnectPolicy(give_up_after)
        while not cursor.is_complete:
            failure: Optional[Exception] = None
            try:
                headers = {**self._headers, **cursor.headers()}
                url = f"{self._base_url}{cursor.path()}"
                async with self._http.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        await response.aread()
                        raise error_from_response(response)
                    parser = Parser()
                    async for line in response.aiter_lines():
                        backoff.record_contact()
                        for event in cursor.feed(parser, line):
                            yield event
            except httpx.TransportError as error:
                failure = error
            if not cursor.is_complete:
                await asyncio.sleep(backoff.delay(cursor.retry_secs, failure))

    async def wait(self, job_id: str, *, give_up_after: float = 60.0) -> Job:
        """Waits until a job has ended and returns it."""
        async for _ in self.follow(job_id, give_up_after=give_up_after):
            pass
        return await self.job(job_id)

    async def _send(self, request: ApiRequest) -> Any:
        policy = RetryPolicy(request, self._retry_for)
        while True:
            try:
                response = await self._http.request(
                    request.method,
                    f"{self._base_url}{request.path}",
                    json=request.json,
                    params=_requests.encode_query(request.params),
                    headers={**self._headers, **request.headers},
                )
            except httpx.TransportError as error:
                delay = policy.delay_after_error(error)
            else:
                if response.is_success:
                    return response.json() if response.content else {}
                delay = policy.delay_after_response(response)
            await asyncio.sleep(delay)
