"""When a call is tried again, and after how long."""

from __future__ import annotations

import random
import time
from typing import Optional

import httpx

from .calls import Call
from .errors import GatewayError, error_of, retry_after_of, unavailable

# Too many requests, and a gateway or a proxy before it that cannot serve right now.
_TRY_AGAIN = (429, 502, 503, 504)
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


class Trying:
    """One call's attempts, for at most `seconds`."""

    def __init__(self, call: Call, seconds: float) -> None:
        self._call = call
        self._end = time.monotonic() + seconds
        self._wait = _FIRST_WAIT

    def after_answer(self, response: httpx.Response) -> float:
        """How long to wait after this refusal, or its error."""
        error = error_of(response)
        # A refusal says that nothing was done; 502 and 504 do not.
        was_refused = response.status_code in (429, 503)
        if response.status_code not in _TRY_AGAIN or not (was_refused or self._call.repeatable):
            raise error
        return self._next(error, retry_after_of(response))

    def after_error(self, error: httpx.TransportError) -> float:
        """How long to wait after this failure, or its error."""
        was_sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
        if was_sent and not self._call.repeatable:
            raise unavailable(error) from error
        return self._next(unavailable(error), None)

    def _next(self, error: GatewayError, advised: Optional[float]) -> float:
        wait = self._wait * random.uniform(0.5, 1.0)
        wait = wait if advised is None else max(advised, wait)
        if time.monotonic() + wait > self._end:
            raise error
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return wait


class Reconnecting:
    """How long a follower waits before it comes back, and when it gives up."""

    def __init__(self, give_up_after: float) -> None:
        self._give_up_after = give_up_after
        self._last_contact = time.monotonic()

    def contact(self) -> None:
        self._last_contact = time.monotonic()

    def after(self, retry: float, error: Optional[Exception]) -> float:
        """How long to wait; raises once there was no contact for too long."""
        silent = time.monotonic() - self._last_contact
        if error is not None and silent > self._give_up_after:
            raise unavailable(error) from error
        return retry * random.uniform(1.0, 1.5)
