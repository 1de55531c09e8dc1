"""Reports the files of a job from a Celery task through Celery's result backend.

The gateway subscribes to the result backend. A report is `task.update_state(state="PROGRESS", meta=...)` with the
latest state of every file, so the next report makes up for a lost one. The task returns the last report.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from types import TracebackType
from typing import (
    Any,
    Callable,
    Deque,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
)

from celery import Task
from celery.backends.redis import RedisBackend
from celery.exceptions import Ignore, SoftTimeLimitExceeded, TaskPredicate

from .task_meta import FileState, TaskMeta, build_model, completed_state, failed_state, progress_state

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
_Self = TypeVar("_Self", bound="_TaskRun")


class JobCancelled(Ignore):
    """The job was cancelled. The task ends without FAILURE and without a result."""


class _TaskRun:
    """One run of a task: the states of its files, their rate-limited reports, and the cancellation check."""

    def __init__(
        self,
        task: Task,
        job_id: Optional[str],
        attempt: Optional[int],
        max_per_sec: int,
        cancel_check_secs: float,
        clock: Clock,
    ) -> None:
        self.job_id: str = str(job_id if job_id is not None else _required_header(task, "job_id"))
        self._task = task
        # Read here, because `task.request` differs in threads that the task starts.
        self._task_id: Optional[str] = task.request.id
        attempt_number = attempt if attempt is not None else _header(task, "attempt")
        self._attempt: Optional[int] = None if attempt_number is None else int(attempt_number)
        self._meta: TaskMeta = {"job_id": self.job_id, "files": {}}
        self._files: List[JobFile] = []
        self._max_per_sec = max_per_sec
        self._sent_at: Deque[float] = deque(maxlen=max_per_sec)
        self._cancel_check_secs = cancel_check_secs
        self._cancel_checked_at: Optional[float] = None
        self._is_cancelled = False
        self._clock = clock
        self._lock = threading.RLock()

    @property
    def result(self) -> TaskMeta:
        """The value that the task returns. After the `with` block, every file is finished."""
        return self._meta

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled. Queries Redis at most once every `cancel_check_secs`."""
        with self._lock:
            now = self._clock()
            last = self._cancel_checked_at
            should_check = last is None or now - last >= self._cancel_check_secs
            if should_check and not self._is_cancelled:
                self._cancel_checked_at = now
                self._is_cancelled = self._has_cancellation_marker()
            return self._is_cancelled

    def raise_if_cancelled(self) -> None:
        """Raises `JobCancelled`, which ends the task, if the job was cancelled."""
        if self.cancelled:
            raise JobCancelled(f"job {self.job_id} was cancelled")

    def __enter__(self: _Self) -> _Self:
        # A job cancelled in the queue cannot be revoked if no worker was running.
        self.raise_if_cancelled()
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc is None:
            self._fail_unfinished("cancelled" if self._is_cancelled else "not processed")
        elif self._is_final_error(exc):
            self._fail_unfinished(exc)

    def _is_final_error(self, error: BaseException) -> bool:
        """Whether no further run of this task will process the files."""
        if isinstance(error, TaskPredicate):  # Retry, Ignore and Reject are not failures
            return False
        # SystemExit and similar exceptions end the worker process, not the job.
        return isinstance(error, Exception) and not self._will_autoretry(error)

    def _will_autoretry(self, error: Exception) -> bool:
        task = self._task
        retryable = tuple(getattr(task, "autoretry_for", ()))
        excluded = tuple(getattr(task, "dont_autoretry_for", ()))
        if not isinstance(error, retryable) or isinstance(error, excluded):
            return False
        max_retries = getattr(task, "retry_kwargs", {}).get("max_retries", task.max_retries)
        return max_retries is None or bool(task.request.retries < max_retries)

    def _fail_unfinished(self, error: Union[str, BaseException]) -> None:
        with self._lock:
            unfinished = [file for file in self._files if not file.is_finished]
            for file in unfinished:
                self._meta["files"][file.file_id] = failed_state(error, self._attempt)
            if unfinished:
                self._send()

    def _record(self, file_id: str, state: FileState) -> None:
        """Records and reports the state of a file, unless the file is already finished."""
        with self._lock:
            files = self._meta["files"]
            if "status" in files.get(file_id, {}):
                return
            files[file_id] = state
            if "status" in state or self._can_send_now():
                self._send()

    def _can_send_now(self) -> bool:
        if len(self._sent_at) < self._max_per_sec:
            return True
        return bool(self._sent_at) and self._clock() - self._sent_at[0] >= 1

    def _send(self) -> None:
        if self._task_id is None:  # the task was called as a function
            return
        self._sent_at.append(self._clock())
        with _suppress_reporting_errors("could not report progress"):
            self._task.update_state(task_id=self._task_id, state="PROGRESS", meta=self._meta)

    def _has_cancellation_marker(self) -> bool:
        backend = self._task.app.backend
        if self._task_id is None or not isinstance(backend, RedisBackend):
            return False
        with _suppress_reporting_errors("could not check whether the job was cancelled"):
            return bool(backend.client.exists(f"i2m:cancelled:{self._task_id}"))
        return False


class JobFile:
    """One of a job's files."""

    def __init__(self, run: _TaskRun, file_id: str, filename: str) -> None:
        self.file_id = file_id
        self.filename = filename
        self._run = run

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.file_id} {self.filename!r}>"

    @property
    def is_finished(self) -> bool:
        """Whether it is completed or failed."""
        return "status" in self._run._meta["files"].get(self.file_id, {})

    def progress(self, progress: float, message: Optional[str] = None) -> None:
        """Reports the progress in percent.

        Reports above `max_per_sec` are not sent; the next report contains the latest state.
        """
        self._run._record(self.file_id, progress_state(progress, message, self._run._attempt))

    def complete(
        self,
        *,
        filename: str,
        size: int,
        mime_type: str,
        url: str,
        rendered_image: Optional[Mapping[str, Any]] = None,
        **extra: Any,
    ) -> None:
        """Reports the finished model. `rendered_image` is `{"url": ...}`. `extra` holds further JSON values."""
        model = build_model(filename, size, mime_type, url, rendered_image, extra)
        self._run._record(self.file_id, completed_state(model, self._run._attempt))

    def fail(self, error: Union[str, BaseException]) -> None:
        """Reports that the file failed. The job's other files are not affected."""
        self._run._record(self.file_id, failed_state(error, self._run._attempt))


class CeleryJob(_TaskRun):
    """The files of a job that one task processes.

    `job_id`, `file_ids` and `attempt` default to the message's headers. Without file ids in either, the files are
    `file_000`, `file_001` and so on. Threads that the task starts may share an instance.
    """

    def __init__(
        self,
        task: Task,
        job_id: Optional[str] = None,
        filenames: Sequence[str] = (),
        *,
        file_ids: Optional[Sequence[str]] = None,
        attempt: Optional[int] = None,
        max_per_sec: int = 10,
        cancel_check_secs: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(task, job_id, attempt, max_per_sec, cancel_check_secs, clock)
        ids = file_ids if file_ids is not None else _header(task, "file_ids")
        if ids is None:
            ids = [f"file_{index:03}" for index in range(len(filenames))]
        if len(ids) != len(filenames):
            raise ValueError(f"{len(ids)} file_ids for {len(filenames)} filenames")
        self._files = [JobFile(self, file_id, name) for file_id, name in zip(ids, filenames)]

    @property
    def files(self) -> Sequence[JobFile]:
        """In the order of `filenames`."""
        return tuple(self._files)


class CeleryFile(_TaskRun):
    """The one file of a job that this task processes, if the gateway sends one task per file.

    `job_id`, `file_id` and `attempt` default to the message's headers.
    """

    def __init__(
        self,
        task: Task,
        job_id: Optional[str] = None,
        file_id: Optional[str] = None,
        filename: str = "",
        *,
        attempt: Optional[int] = None,
        max_per_sec: int = 10,
        cancel_check_secs: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(task, job_id, attempt, max_per_sec, cancel_check_secs, clock)
        self.file_id = str(file_id if file_id is not None else _required_header(task, "file_id"))
        self.filename = filename
        file = JobFile(self, self.file_id, filename)
        self._files = [file]
        self.progress = file.progress
        self.complete = file.complete
        self.fail = file.fail

    @property
    def is_finished(self) -> bool:
        """Whether it is completed or failed."""
        return self._files[0].is_finished


def _header(task: Task, name: str) -> Any:
    return (task.request.headers or {}).get(name)


def _required_header(task: Task, name: str) -> Any:
    value = _header(task, name)
    if value is None:
        raise TypeError(f"{name} is missing: pass it, or send it in the message's headers")
    return value


@contextmanager
def _suppress_reporting_errors(message: str) -> Iterator[None]:
    """Logs reporting errors instead of raising them, so that they do not fail the task."""
    try:
        yield
    except SoftTimeLimitExceeded:  # meant for the task, whichever line it interrupts
        raise
    except Exception:
        logger.warning("%s; the task continues", message, exc_info=True)
