"""The blocking client. `async_client` has the same methods for asyncio."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Iterable, Iterator, Mapping, Optional, Type, cast

import httpx

from . import _requests
from ._requests import ApiRequest, FileLike
from .errors import GatewayError, LockLost, error_from_response
from .events import Event, Parser, StreamCursor
from .locks import HeldLock
from .models import Job, JobPage, JobProgress, JobSummary, Lock, RateLimits, StoredModel
from .retry import ReconnectPolicy, RetryPolicy

TIMEOUT = httpx.Timeout(10.0)
# Longer than the gateway's heartbeat interval, so a read timeout means a dead connection.
STREAM_TIMEOUT = httpx.Timeout(10.0, read=45.0)


class Client:
    """A blocking client of the gateway at `base_url`. Threads may share one instance.

    A request that fails because the gateway is unreachable or overloaded is retried for up to `retry_for` seconds, if
    repeating it is safe. Methods raise `GatewayError` or one of its subclasses.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        retry_for: float = 30.0,
        http: Optional[httpx.Client] = None,
    ) -> None:
        if not key.strip():
            raise ValueError("key must not be empty")
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._retry_for = retry_for
        self._http = http or httpx.Client(timeout=TIMEOUT)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def create_job(
        self,
        files: Iterable[FileLike],
        params: Optional[Mapping[str, Any]] = None,
        *,
        idempotency_key: Optional[str] = None,
    ) -> Job:
        """Creates one job with `files`: names or `NewFile` dicts. A retried request does not create a second job."""
        return cast(Job, self._send(_requests.create_job(files, params, idempotency_key)))

    def job(self, job_id: str) -> Job:
        return cast(Job, self._send(_requests.job("GET", job_id)))

    def list_jobs(
        self,
        *,
        status: Optional[str] = None,
        created_after: Optional[str] = None,
        limit: int = 20,
        cursor: Optional[str] = None,
    ) -> JobPage:
        """Returns one page of the caller's jobs, newest first."""
        return cast(JobPage, self._send(_requests.list_jobs(status, created_after, limit, cursor)))

    def jobs(self, *, status: Optional[str] = None) -> Iterator[JobSummary]:
        """Yields all of the caller's jobs, newest first, fetching one page at a time."""
        cursor: Optional[str] = None
        while True:
            page = self.list_jobs(status=status, limit=100, cursor=cursor)
            yield from page["jobs"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def progress(self, job_id: str) -> JobProgress:
        return cast(JobProgress, self._send(_requests.job("GET", job_id, "/progress")))

    def downloads(self, job_id: str) -> Mapping[str, Any]:
        """Returns the finished files of a job: `files`, and `download_urls` in the same order."""
        return cast(Mapping[str, Any], self._send(_requests.downloads(job_id)))

    def cancel(self, job_id: str) -> str:
        """Cancels a job and returns its new status, which is `cancelling` while a worker still processes it."""
        return str(self._send(_requests.job("POST", job_id, "/cancel"))["status"])

    def retry(self, job_id: str) -> Job:
        """Retries the failed files of a job."""
        return cast(Job, self._send(_requests.job("POST", job_id, "/retry")))

    def delete(self, job_id: str) -> None:
        self._send(_requests.job("DELETE", job_id))

    def rate_limits(self) -> RateLimits:
        """Returns the caller's rate limits and their remaining requests. This request does not count."""
        return cast(RateLimits, self._send(_requests.rate_limits()))

    @contextmanager
    def lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> Iterator[HeldLock]:
        """Holds a lock such as `job:ID` while the block runs, and renews it. `ttl` and `wait` are in seconds.

        A lost lock cannot interrupt the block: call `raise_if_lost()` before each step that needs the lock. If the lock
        is lost when the block ends, `LockLost` is raised.
        """
        lock = self.acquire_lock(resource, ttl=ttl, wait=wait)
        held = HeldLock(lock, ttl)
        done = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(held, lock, ttl, done), daemon=True)
        renewal.start()
        try:
            yield held
            held.raise_if_lost()
        finally:
            done.set()
            renewal.join()
            # A lock that cannot be released expires after its TTL.
            with suppress(GatewayError):
                self.release_lock(lock)

    def _renew(self, held: HeldLock, lock: Lock, ttl: int, done: threading.Event) -> None:
        while not held.is_lost and not done.wait(held.secs_until_renewal()):
            requested_at = time.monotonic()
            try:
                self.extend_lock(lock, ttl=ttl)
            except LockLost as error:
                held.mark_lost(error)
            except GatewayError:
                # The next attempt may succeed before the TTL ends.
                continue
            else:
                held.mark_renewed(requested_at)

    def acquire_lock(self, resource: str, *, ttl: int = 30, wait: int = 0) -> Lock:
        """Acquires a lock such as `job:ID`. `ttl` and `wait` are in seconds."""
        return cast(Lock, self._send(_requests.acquire_lock(resource, ttl, wait)))

    def extend_lock(self, lock: Lock, *, ttl: int = 30) -> Lock:
        """Extends a lock to `ttl` seconds from now."""
        return cast(Lock, self._send(_requests.extend_lock(lock["resource"], lock["token"], ttl)))

    def release_lock(self, lock: Lock) -> None:
        self._send(_requests.release_lock(lock["resource"], lock["token"]))

    def model(self, model_id: str) -> Any:
        """Returns the cached data of a model."""
        return self._send(_requests.model("GET", model_id))

    def put_model(
        self, model_id: str, data: Any, *, ttl: Optional[int] = None, tags: Iterable[str] = ()
    ) -> StoredModel:
        """Caches the data of a model for `ttl` seconds under `tags`."""
        request = _requests.model("PUT", model_id, _requests.model_body(data, ttl, tags))
        return cast(StoredModel, self._send(request))

    def delete_model(self, model_id: str) -> None:
        self._send(_requests.model("DELETE", model_id))

    def invalidate(self, *, tag: Optional[str] = None, pattern: Optional[str] = None) -> int:
        """Removes cached values by tag or pattern and returns their count. Needs the admin role."""
        response = self._send(_requests.invalidate(tag, pattern))
        return int(response["removed"])

    def follow(
        self,
        *job_ids: str,
        last_event_id: Optional[str] = None,
        give_up_after: float = 60.0,
    ) -> Iterator[Event]:
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
                with self._http.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        response.read()
                        raise error_from_response(response)
                    parser = Parser()
                    for line in response.iter_lines():
                        backoff.record_contact()
                        yield from cursor.feed(parser, line)
            except httpx.TransportError as error:
                failure = error
            if not cursor.is_complete:
                time.sleep(backoff.delay(cursor.retry_secs, failure))

    def wait(self, job_id: str, *, give_up_after: float = 60.0) -> Job:
        """Waits until a job has ended and returns it."""
        for _ in self.follow(job_id, give_up_after=give_up_after):
            pass
        return self.job(job_id)

    def _send(self, request: ApiRequest) -> Any:
        policy = RetryPolicy(request, self._retry_for)
        while True:
            try:
                response = self._http.request(
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
            time.sleep(delay)
