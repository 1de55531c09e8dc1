"""Locks that are held while work goes on: what both clients know of one."""

from __future__ import annotations

import time
from typing import Optional

from .errors import GatewayError, LockLost
from .models import Lock


class HeldLock:
    """A lock that is renewed while the `with` block runs; it may be lost all the same."""

    def __init__(self, lock: Lock, ttl: float) -> None:
        self.resource = lock["resource"]
        self.token = lock["token"]
        # Larger than that of every earlier holder: what is written under the lock refuses a smaller one.
        self.fencing_token = lock["fencing_token"]
        self._ttl = ttl
        self.end = time.monotonic() + ttl
        self.loss: Optional[GatewayError] = None

    @property
    def is_lost(self) -> bool:
        """Whether somebody else may hold it by now."""
        return self.loss is not None or time.monotonic() >= self.end

    def raise_if_lost(self) -> None:
        """Call it before each step that must not be done by two."""
        if self.loss is not None:
            raise self.loss
        if self.is_lost:
            raise late(self.resource)

    def until_renewal(self) -> float:
        return max(0.0, min(self._ttl / 3, self.end - time.monotonic()))

    def renewed(self, asked_at: float) -> None:
        self.end = asked_at + self._ttl

    def lose(self, error: GatewayError) -> None:
        self.loss = error


def late(resource: str) -> LockLost:
    """The error of a lock that could not be renewed for its whole time."""
    return LockLost(f"the lock {resource} could not be renewed in time", code="LOCK_LOST")
