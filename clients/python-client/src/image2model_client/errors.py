"""Errors by the `error_code` of the gateway's problem responses."""

from __future__ import annotations

from typing import Any, Dict, Optional, Type

import httpx


class GatewayError(Exception):
    """An error response of the gateway. `code` is stable, such as `JOB_NOT_FOUND`; `detail` is for humans."""

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
    """The API key is missing, unknown or lacks the required role."""


class JobNotFound(GatewayError):
    """The job does not exist or belongs to another API key."""


class InvalidRequest(GatewayError):
    """The request is invalid; `detail` names the field and the problem."""


class InvalidTransition(GatewayError):
    """The job's current status does not allow the operation."""


class RateLimited(GatewayError):
    """A rate limit is exceeded. `retry_after` is in seconds."""


class LockUnavailable(GatewayError):
    """Another client holds the lock."""


class LockLost(GatewayError):
    """The lock has expired or is held by another client."""


class GatewayUnavailable(GatewayError):
    """The gateway was unreachable or unavailable until the retries ended."""


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
    """Converts an error response, whose body has been read, to an exception."""
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
    """Converts a transport error to an exception."""
    return GatewayUnavailable(str(error) or type(error).__name__, code="UNREACHABLE")


def retry_after_secs(response: httpx.Response) -> Optional[float]:
    """Parses `Retry-After`. Returns `None` if it is missing or not a number of seconds."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
