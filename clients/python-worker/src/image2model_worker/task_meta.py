"""The report formats that the gateway reads, and their size limits."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Optional, TypedDict, Union

# The gateway rejects longer texts.
MAX_MESSAGE_BYTES = 1024
MAX_ERROR_BYTES = 4096

Model = Dict[str, Any]
"""A finished file's result: `filename`, `size` in bytes, `mime_type`, `url` and optional further fields."""


class FileState(TypedDict, total=False):
    """One file, either in progress (`progress`, `message`) or finished (`status`, and `result` or `error`)."""

    progress: int
    message: str
    status: str
    result: Model
    error: str
    attempt: int


class TaskMeta(TypedDict):
    """The latest state of every file that has been reported on."""

    job_id: str
    files: Dict[str, FileState]


class _FileProgressRequired(TypedDict):
    file_id: str
    progress: float


class FileProgress(_FileProgressRequired, total=False):
    """One item of `HttpReporter.progress_batch`."""

    message: str
    attempt: int


def progress_state(progress: float, message: Optional[str], attempt: Optional[int]) -> FileState:
    state: FileState = {"progress": clamp_percent(progress)}
    if message is not None:
        state["message"] = truncate_utf8(message, MAX_MESSAGE_BYTES)
    return with_attempt(state, attempt)


def completed_state(model: Model, attempt: Optional[int]) -> FileState:
    return with_attempt({"status": "completed", "result": model}, attempt)


def failed_state(error: Union[str, BaseException], attempt: Optional[int]) -> FileState:
    # The gateway rejects an empty error, and `str(KeyError())` is empty.
    text = str(error) or (type(error).__name__ if isinstance(error, BaseException) else "failed")
    return with_attempt({"status": "failed", "error": truncate_utf8(text, MAX_ERROR_BYTES)}, attempt)


def build_model(
    filename: str,
    size: int,
    mime_type: str,
    url: str,
    rendered_image: Optional[Mapping[str, Any]],
    extra: Mapping[str, Any],
) -> Model:
    model: Model = {"filename": filename, "size": size, "mime_type": mime_type, "url": url, **extra}
    if rendered_image is not None:
        model["rendered_image"] = dict(rendered_image)
    # Every later report would contain a value that is not valid JSON, so reject it here.
    text = json.dumps(model, allow_nan=False, ensure_ascii=False).encode()
    copy: Model = json.loads(text)
    return copy


def with_attempt(state: FileState, attempt: Optional[int]) -> FileState:
    if attempt is not None:
        state["attempt"] = attempt
    return state


def clamp_percent(progress: float) -> int:
    """Clamps to 0..100, because a rounding error such as 100.2 must not fail the file."""
    return int(min(max(progress, 0), 100))


def truncate_utf8(text: str, max_bytes: int) -> str:
    """Truncates to `max_bytes` of valid UTF-8: drops a split character and replaces lone surrogates."""
    return text.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
