"""The state of a held lock, shared by the blocking and the asyncio client."""

from __future__ import annotations

import time
from typing import Optional

from .errors import GatewayError, LockLost
from .models import Lock


class HeldLock:
    """A lock that is renewed while the `with` block runs. It may still be lost."""

    def __init__(self, lock: Lock, ttl: float) -> None:
        self.resource = lock["resource"]
        self.token = lock["token"]
        # Larger than every earlier holder's token: protected resources must reject a smaller one.
        self.fencing_token = lock["fencing_token"]
        self._ttl = ttl
        self.deadline = time.monotonic() + ttl
        self.loss_error: Optional[GatewayError] = None

    @property
    def is_lost(self) -> bool:
        """Whether another client may hold the lock."""
        return self.loss_error is not None or time.monotonic() >= self.deadline

    def raise_if_lost(self) -> None:
        """Raises `LockLost` if the lock is lost. Call it before each step that needs the lock."""
        if self.loss_error is not None:
            raise self.loss_error
        if self.is_lost:
            raise renewal_timed_out(self.resource)

    def secs_until_renewal(self) -> float:
        return max(0.0, min(self._ttl / 3, self.deadline - time.monotonic()))

    def mark_renewed(self, requested_at: float) -> None:
        self.deadline = requested_at + self._ttl

    def mark_lost(self, error: GatewayError) -> None:
        self.loss_error = error


def renewal_timed_out(resource: str) -> LockLost:
    """The error of a lock whose TTL ended before a renewal succeeded."""
    return LockLost(f"lock {resource} was not renewed before its TTL ended", code="LOCK_LOST")
