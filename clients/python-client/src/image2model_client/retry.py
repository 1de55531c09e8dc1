"""When a request is retried or a stream reconnects, and after how long."""

from __future__ import annotations

import random
import time
from typing import Optional

import httpx

from ._requests import ApiRequest
from .errors import GatewayError, error_from_response, retry_after_secs, unreachable

# Rate limited, or the gateway or a proxy in front of it is unavailable.
_RETRYABLE_STATUSES = (429, 502, 503, 504)
_INITIAL_DELAY = 0.1
_MAX_DELAY = 5.0


class RetryPolicy:
    """The retries of one request, for at most `retry_for` seconds, with exponential backoff."""

    def __init__(self, request: ApiRequest, retry_for: float) -> None:
        self._request = request
        self._deadline = time.monotonic() + retry_for
        self._delay = _INITIAL_DELAY

    def delay_after_response(self, response: httpx.Response) -> float:
        """Returns the seconds until the next attempt, or raises the error of `response`."""
        error = error_from_response(response)
        # 429 and 503 guarantee that the request had no effect; 502 and 504 do not.
        was_rejected = response.status_code in (429, 503)
        may_repeat = was_rejected or self._request.idempotent
        if response.status_code not in _RETRYABLE_STATUSES or not may_repeat:
            raise error
        return self._next_delay(error, retry_after_secs(response))

    def delay_after_error(self, error: httpx.TransportError) -> float:
        """Returns the seconds until the next attempt, or raises `GatewayUnavailable`."""
        was_sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
        if was_sent and not self._request.idempotent:
            raise unreachable(error) from error
        return self._next_delay(unreachable(error), None)

    def _next_delay(self, error: GatewayError, retry_after: Optional[float]) -> float:
        delay = self._delay * random.uniform(0.5, 1.0)
        delay = delay if retry_after is None else max(retry_after, delay)
        if time.monotonic() + delay > self._deadline:
            raise error
        self._delay = min(2 * self._delay, _MAX_DELAY)
        return delay


class ReconnectPolicy:
    """The delay before a stream reconnects, and the limit on time without contact."""

    def __init__(self, give_up_after: float) -> None:
        self._give_up_after = give_up_after
        self._last_contact = time.monotonic()

    def record_contact(self) -> None:
        self._last_contact = time.monotonic()

    def delay(self, retry_secs: float, error: Optional[Exception]) -> float:
        """Returns the seconds until the next attempt, or raises after `give_up_after` seconds without contact."""
        silence = time.monotonic() - self._last_contact
        if error is not None and silence > self._give_up_after:
            raise unreachable(error) from error
        return retry_secs * random.uniform(1.0, 1.5)
