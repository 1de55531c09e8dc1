"""Reports over HTTP, for workers that are no Celery tasks. Needs nothing but the standard library."""

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

from .meta import (
    MAX_MESSAGE_BYTES,
    FileProgress,
    FileState,
    completed_state,
    cut,
    failed_state,
    model_of,
    percent,
    progress_state,
)

Json = Dict[str, Any]

# Too many requests, and a gateway or a proxy before it that cannot serve right now.
_TRY_AGAIN = (429, 502, 503, 504)
_FIRST_WAIT_SECS = 0.1
_LONGEST_WAIT_SECS = 5.0


class GatewayError(Exception):
    """The gateway refused. `code` is part of its API, such as `FILE_NOT_FOUND`; `detail` is for people."""

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
    """There is no such job: it was deleted, or has expired. Stop working on it."""


class InvalidTransition(GatewayError):
    """The job is over, for example cancelled, or this attempt is. Stop working on it."""


class GatewayUnavailable(GatewayError):
    """The gateway could not be reached, or could not serve, for as long as was tried."""

    retry_after_secs = 0.0


class HttpReporter:
    """Reports to the gateway at `base_url`. May be shared by threads.

    All calls may safely come twice, so each is tried again, for at most `retry_for_secs`, while the
    gateway is away. Raises `GatewayError` or one of its kinds.
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
            raise ValueError(f"base_url: {base_url!r} is no http or https URL")
        if not (key and key.isascii() and key.isprintable()):
            raise ValueError("key: it is empty, or cannot be sent in a header")
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
        """The job and its files."""
        return self._call("GET", _path(job_id))

    def set_status(self, job_id: str, status: str) -> Json:
        """Moves the whole job, for example to `processing`. With its last file's result it ends by itself."""
        return self._call("PATCH", _path(job_id), {"status": status})

    def progress(
        self,
        job_id: str,
        file_id: str,
        progress: float,
        message: Optional[str] = None,
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        """Says how far a file is, in percent."""
        state = progress_state(progress, message, attempt)
        return self._call("POST", _path(job_id, "files", file_id, "progress"), state)

    def progress_batch(self, job_id: str, files: Iterable[FileProgress]) -> Json:
        """Says how far several files are, in one request: all are recorded or, on an error, none."""
        items: List[Json] = []
        for file in files:
            item: Json = {**file, "progress": percent(file["progress"])}
            if "message" in file:
                item["message"] = cut(file["message"], MAX_MESSAGE_BYTES)
            items.append(item)
        return self._call("POST", _path(job_id, "progress"), {"files": items})

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
        **more: Any,
    ) -> Json:
        """Says where a file's model is. `rendered_image` is `{"url": ...}`; JSON in `more` is kept."""
        model = model_of(filename, size, mime_type, url, rendered_image, more)
        return self._finish(job_id, file_id, completed_state(model, attempt))

    def fail(
        self,
        job_id: str,
        file_id: str,
        error: Union[str, BaseException],
        *,
        attempt: Optional[int] = None,
    ) -> Json:
        """Says why a file has no model."""
        return self._finish(job_id, file_id, failed_state(error, attempt))

    def _finish(self, job_id: str, file_id: str, state: FileState) -> Json:
        return self._call("PUT", _path(job_id, "files", file_id, "result"), state)

    def _call(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None) -> Json:
        deadline = self._clock() + self._retry_for_secs
        longest_wait = _FIRST_WAIT_SECS
        while True:
            try:
                return self._try(method, path, body, deadline - self._clock())
            except GatewayUnavailable as error:
                # Apart from each other, so that a gateway that comes back is not met by all at once.
                backoff = longest_wait * random.uniform(0.5, 1)
                wait = max(backoff, error.retry_after_secs)
                if self._clock() + wait >= deadline:
                    raise
                self._sleep(wait)
                longest_wait = min(longest_wait * 2, _LONGEST_WAIT_SECS)

    def _try(
        self, method: str, path: str, body: Optional[Mapping[str, Any]], left_secs: float
    ) -> Json:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(
            self._base_url + path, data=data, headers=headers, method=method
        )
        timeout = min(self._timeout_secs, max(left_secs, _FIRST_WAIT_SECS))
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return _parse_answer(response.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise _error_of(refusal) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            raise GatewayUnavailable(reason, code="CONNECTION_FAILED") from error


class AsyncHttpReporter:
    """`HttpReporter` for asyncio, each call in a thread. A call that is cancelled may still arrive."""

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
        **more: Any,
    ) -> Json:
        return await asyncio.to_thread(
            self._reporter.complete,
            job_id,
            file_id,
            filename=filename,
            size=size,
            mime_type=mime_type,
            url=url,
            **more,
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
    """urllib would make a GET of a POST, and show the key to wherever it is sent."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _path(job_id: str, *rest: str) -> str:
    return "/".join(["/api/v1/jobs", *(quote(it, safe="") for it in (job_id, *rest))])


def _parse_answer(body: bytes) -> Json:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise GatewayError("the answer is no JSON object; is this the gateway?", code="BAD_ANSWER")
    return answer


def _error_of(refusal: urllib.error.HTTPError) -> GatewayError:
    problem = _problem_of(refusal)
    code = str(problem.get("error_code") or f"HTTP_{refusal.code}")
    kind: Type[GatewayError] = GatewayError
    if refusal.code in _TRY_AGAIN:
        kind = GatewayUnavailable
    elif code == "JOB_NOT_FOUND":
        kind = JobNotFound
    elif code == "INVALID_TRANSITION":
        kind = InvalidTransition
    details = problem.get("details")
    error = kind(
        str(problem.get("detail") or refusal.reason),
        code=code,
        http_status=refusal.code,
        request_id=problem.get("request_id") or refusal.headers.get("X-Request-Id"),
        details=details if isinstance(details, dict) else None,
    )
    if isinstance(error, GatewayUnavailable):
        error.retry_after_secs = _retry_after_secs(refusal)
    return error


def _problem_of(refusal: urllib.error.HTTPError) -> Json:
    """The body, if it is a problem of the gateway's and not a page that a proxy put there."""
    try:
        problem = json.loads(refusal.read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after_secs(refusal: urllib.error.HTTPError) -> float:
    try:
        return max(0.0, float(refusal.headers.get("Retry-After", "0")))
    except ValueError:  # a date
        return 0.0
