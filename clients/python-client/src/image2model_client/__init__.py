"""Client for image2model-gateway: creates jobs and follows their progress."""

from __future__ import annotations

from .async_client import AsyncClient
from .client import Client
from .errors import (
    GatewayError,
    GatewayUnavailable,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    LockLost,
    LockUnavailable,
    PermissionDenied,
    RateLimited,
)
from .events import TERMINAL, Event
from .locks import HeldLock
from .models import Job, JobFile, JobPage, JobProgress, Lock, NewFile, RateLimits

__all__ = [
    "TERMINAL",
    "AsyncClient",
    "Client",
    "Event",
    "GatewayError",
    "GatewayUnavailable",
    "HeldLock",
    "InvalidRequest",
    "InvalidTransition",
    "Job",
    "JobFile",
    "JobNotFound",
    "JobPage",
    "JobProgress",
    "Lock",
    "LockLost",
    "LockUnavailable",
    "NewFile",
    "PermissionDenied",
    "RateLimited",
    "RateLimits",
]
