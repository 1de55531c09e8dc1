"""What the gateway refuses, by the code that its answers carry."""

from __future__ import annotations

from typing import Any, Dict, Optional, Type

import httpx


class GatewayError(Exception):
    """The gateway refused. `code` is part of its API, such as `JOB_NOT_FOUND`; `detail` is for people."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        http_status: Optional[int] = None,
        request_id: Optional[str] = None,
        details: Optional[Dict[str, Any]] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.detail = detail
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.details: Dict[str, Any] = details or {}
        self.retry_after = retry_after


class PermissionDenied(GatewayError):
    """The key is missing or unknown, or lacks the role."""


class JobNotFound(GatewayError):
    """There is no such job, or it is somebody else's."""


class InvalidRequest(GatewayError):
    """What was sent is not valid; `detail` says what and where."""


class InvalidTransition(GatewayError):
    """The job's status does not allow it."""


class RateLimited(GatewayError):
    """Too many requests; `retry_after` is in seconds."""


class LockUnavailable(GatewayError):
    """Somebody else holds the lock."""


class LockLost(GatewayError):
    """The lock is no longer ours."""


class GatewayUnavailable(GatewayError):
    """The gateway could not be reached, or could not serve, for as long as was tried."""


_ERRORS_BY_CODE: Dict[str, Type[GatewayError]] = {
    "AUTHENTICATION_REQUIRED": PermissionDenied,
    "INVALID_API_KEY": PermissionDenied,
    "INSUFFICIENT_PERMISSIONS": PermissionDenied,
    "JOB_NOT_FOUND": JobNotFound,
    "VALIDATION_ERROR": InvalidRequest,
    "INVALID_JOB_ID": InvalidRequest,
    "TOO_MANY_FILES": InvalidRequest,
    "IDEMPOTENCY_CONFLICT": InvalidRequest,
    "INVALID_TRANSITION": InvalidTransition,
    "RATE_LIMIT_EXCEEDED": RateLimited,
    "LOCK_UNAVAILABLE": LockUnavailable,
    "LOCK_LOST": LockLost,
}


def error_from_response(response: httpx.Response) -> GatewayError:
    """The error that an answer, already read, tells of."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    code = str(problem.get("error_code", "UNKNOWN"))
    fallback = GatewayUnavailable if response.status_code in (502, 503, 504) else GatewayError
    return _ERRORS_BY_CODE.get(code, fallback)(
        str(problem.get("detail", response.reason_phrase)),
        code=code,
        http_status=response.status_code,
        request_id=response.headers.get("x-request-id"),
        details=problem.get("details"),
        retry_after=retry_after_secs(response),
    )


def unreachable(error: Exception) -> GatewayUnavailable:
    """The error for a gateway that could not be reached."""
    return GatewayUnavailable(str(error) or type(error).__name__, code="UNREACHABLE")


def retry_after_secs(response: httpx.Response) -> Optional[float]:
    """The seconds of `Retry-After`, if it says any."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
