"""Reports over HTTP, for workers that do not use Celery. Needs only the standard library."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Type, Union
from urllib.parse import quote, urlsplit

from .task_meta import (
    MAX_MESSAGE_BYTES,
    FileProgress,
    FileState,
    build_model,
    clamp_percent,
    completed_state,
    failed_state,
    progress_state,
    truncate_utf8,
)

Json = Dict[str, Any]

# Rate limited, or the gateway or a proxy in front of it is unavailable.
_RETRYABLE_STATUSES = (429, 502, 503, 504)
_INITIAL_DELAY_SECS = 0.1
_MAX_DELAY_SECS = 5.0


class GatewayError(Exception):
    """An error response of the gateway. `code` is stable, such as `FILE_NOT_FOUND`; `detail` is for humans."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        http_status: Optional[int] = None,
        request_id: Optional[str] = None,
        details: Optional[Json] = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.detail = detail
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.details: Json = details or {}


class JobNotFound(GatewayError):
    """The job does not exist: it was deleted or has expired. Stop working on it."""


class InvalidTransition(GatewayError):
    """The job or this attempt has ended, for example by cancellation. Stop working on it."""


class GatewayUnavailable(GatewayError):
    """The gateway was unreachable or unavailable until the retries ended."""

    retry_after_secs = 0.0


class HttpReporter:
    """Reports to the gateway at `base_url`. Threads may share one instance.

    All requests are idempotent. Each is retried for at most `retry_for_secs` while the gateway is unreachable or
    unavailable. Methods raise `GatewayError` or one of its subclasses.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_secs: float = 10.0,
        retry_for_secs: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"base_url must be an http or https URL, not {base_url!r}")
        if not (key and key.isascii() and key.isprintable()):
            raise ValueError("key must be non-empty printable ASCII")
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._timeout_secs = timeout_secs
        self._retry_for_secs = retry_for_secs
        self._clock = clock
        self._sleep = sleep
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"HttpReporter({self._base_url!r})"

    def job(self, job_id: str) -> Json:
        """Returns the job and its files."""
        return self._request("GET", _path(job_id))

    def set_status(self, job_id: str, status: str) -> Json:
        """Sets the job's status, for example to `processing`. The result of the last file ends the job."""
        return self._request("PATCH", _path(job_id), {"status": status})

    def progress(
        self,
        job_id: str,
        file_id: str,
        progress: float,
        message: Optional[str] = None,
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        """Reports the progress of a file in percent."""
        state = progress_state(progress, message, attempt)
        return self._request("POST", _path(job_id, "files", file_id, "progress"), state)

    def progress_batch(self, job_id: str, files: Iterable[FileProgress]) -> Json:
        """Reports the progress of several files in one request. On an error, none is recorded."""
        items: List[Json] = []
        for file in files:
            item: Json = {**file, "progress": clamp_percent(file["progress"])}
            if "message" in file:
                item["message"] = truncate_utf8(file["message"], MAX_MESSAGE_BYTES)
            items.append(item)
        return self._request("POST", _path(job_id, "progress"), {"files": items})

    def complete(
        self,
        job_id: str,
        file_id: str,
        *,
        filename: str,
        size: int,
        mime_type: str,
        url: str,
        rendered_image: Optional[Mapping[str, Any]] = None,
        attempt: Optional[int] = None,
        **extra: Any,
    ) -> Json:
        """Reports a finished model. `rendered_image` is `{"url": ...}`. `extra` holds further JSON values."""
        model = build_model(filename, size, mime_type, url, rendered_image, extra)
        return self._finish(job_id, file_id, completed_state(model, attempt))

    def fail(
        self,
        job_id: str,
        file_id: str,
        error: Union[str, BaseException],
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        """Reports that a file failed."""
        return self._finish(job_id, file_id, failed_state(error, attempt))

    def _finish(self, job_id: str, file_id: str, state: FileState) -> Json:
        return self._request("PUT", _path(job_id, "files", file_id, "result"), state)

    def _request(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None) -> Json:
        deadline = self._clock() + self._retry_for_secs
        max_backoff = _INITIAL_DELAY_SECS
        while True:
            try:
                return self._attempt(method, path, body, deadline - self._clock())
            except GatewayUnavailable as error:
                # Jitter spreads the retries of many workers when the gateway returns.
                backoff = max_backoff * random.uniform(0.5, 1)
                delay = max(backoff, error.retry_after_secs)
                if self._clock() + delay >= deadline:
                    raise
                self._sleep(delay)
                max_backoff = min(max_backoff * 2, _MAX_DELAY_SECS)

    def _attempt(
        self, method: str, path: str, body: Optional[Mapping[str, Any]], remaining_secs: float
    ) -> Json:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(
            self._base_url + path, data=data, headers=headers, method=method
        )
        timeout = min(self._timeout_secs, max(remaining_secs, _INITIAL_DELAY_SECS))
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return _parse_response(response.read())
        except urllib.error.HTTPError as http_error:
            with http_error:
                raise _error_from_response(http_error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            raise GatewayUnavailable(reason, code="CONNECTION_FAILED") from error


class AsyncHttpReporter:
    """`HttpReporter` for asyncio. Each call runs in a thread, so a cancelled call may still reach the gateway."""

    def __init__(self, base_url: str, key: str, **options: Any) -> None:
        self._reporter = HttpReporter(base_url, key, **options)

    async def job(self, job_id: str) -> Json:
        return await asyncio.to_thread(self._reporter.job, job_id)

    async def set_status(self, job_id: str, status: str) -> Json:
        return await asyncio.to_thread(self._reporter.set_status, job_id, status)

    async def progress(
        self,
        job_id: str,
        file_id: str,
        progress: float,
        message: Optional[str] = None,
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        return await asyncio.to_thread(
            self._reporter.progress, job_id, file_id, progress, message, attempt=attempt
        )

    async def progress_batch(self, job_id: str, files: Iterable[FileProgress]) -> Json:
        return await asyncio.to_thread(self._reporter.progress_batch, job_id, files)

    async def complete(
        self,
        job_id: str,
        file_id: str,
        *,
        filename: str,
        size: int,
        mime_type: str,
        url: str,
        **extra: Any,
    ) -> Json:
        return await asyncio.to_thread(
            self._reporter.complete,
            job_id,
            file_id,
            filename=filename,
            size=size,
            mime_type=mime_type,
            url=url,
            **extra,
        )

    async def fail(
        self,
        job_id: str,
        file_id: str,
        error: Union[str, BaseException],
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        return await asyncio.to_thread(
            self._reporter.fail, job_id, file_id, error, attempt=attempt
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Rejects redirects: urllib would turn a POST into a GET and send the key to the new location."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _path(job_id: str, *rest: str) -> str:
    return "/".join(["/api/v1/jobs", *(quote(segment, safe="") for segment in (job_id, *rest))])


def _parse_response(body: bytes) -> Json:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise GatewayError("the response is not a JSON object; is base_url the gateway?", code="INVALID_RESPONSE")
    return parsed


def _error_from_response(response: urllib.error.HTTPError) -> GatewayError:
    problem = _parse_problem(response)
    code = str(problem.get("error_code") or f"HTTP_{response.code}")
    error_type: Type[GatewayError] = GatewayError
    if response.code in _RETRYABLE_STATUSES:
        error_type = GatewayUnavailable
    elif code == "JOB_NOT_FOUND":
        error_type = JobNotFound
    elif code == "INVALID_TRANSITION":
        error_type = InvalidTransition
    details = problem.get("details")
    error = error_type(
        str(problem.get("detail") or response.reason),
        code=code,
        http_status=response.code,
        request_id=problem.get("request_id") or response.headers.get("X-Request-Id"),
        details=details if isinstance(details, dict) else None,
    )
    if isinstance(error, GatewayUnavailable):
        error.retry_after_secs = _retry_after_secs(response)
    return error


def _parse_problem(response: urllib.error.HTTPError) -> Json:
    """Parses a problem body. Returns an empty dict for other bodies, such as the error page of a proxy."""
    try:
        problem = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after_secs(response: urllib.error.HTTPError) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:  # an HTTP date
        return 0.0
