"""Reports a job's progress and results to image2model-gateway, from a Celery task or over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .http_reporter import (
    AsyncHttpReporter,
    GatewayError,
    GatewayUnavailable,
    HttpReporter,
    InvalidTransition,
    JobNotFound,
)
from .task_meta import FileProgress, FileState, Model, TaskMeta

if TYPE_CHECKING:
    from .celery_job import CeleryFile, CeleryJob, JobCancelled, JobFile

__all__ = [
    "AsyncHttpReporter",
    "CeleryFile",
    "CeleryJob",
    "FileProgress",
    "FileState",
    "GatewayError",
    "GatewayUnavailable",
    "HttpReporter",
    "InvalidTransition",
    "JobCancelled",
    "JobFile",
    "JobNotFound",
    "Model",
    "TaskMeta",
]

_CELERY_EXPORTS = ("CeleryFile", "CeleryJob", "JobCancelled", "JobFile")


def __getattr__(name: str) -> Any:
    # Imported on first use, because reporting over HTTP does not need Celery.
    if name not in _CELERY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import celery_job
    except ModuleNotFoundError as error:
        if error.name != "celery":
            raise
        raise ImportError(
            f"{name} needs Celery: pip install 'image2model-worker[celery]'", name="celery"
        ) from error
    return getattr(celery_job, name)
