"""Request and response bodies, named as in the API document. A test compares them with it."""

from __future__ import annotations

from typing import Any, Dict, List, TypedDict


class _NewFile(TypedDict):
    filename: str


class NewFile(_NewFile, total=False):
    size: int
    content_type: str
    url: str
    metadata: Dict[str, Any]


class JobLinks(TypedDict):
    self: str
    progress: str
    stream: str
    cancel: str


class JobFile(TypedDict, total=False):
    file_id: str
    filename: str
    size: int
    content_type: str
    status: str
    progress: int
    attempt: int
    message: str
    error: str
    url: str
    metadata: Dict[str, Any]


class Job(TypedDict, total=False):
    job_id: str
    status: str
    progress: int
    total_files: int
    completed_files: int
    failed_files: int
    created_at: str
    updated_at: str
    started_at: str
    ended_at: str
    error: str
    params: Dict[str, Any]
    files: List[JobFile]
    attempt: int
    queue_position: int
    links: JobLinks


class JobSummary(TypedDict, total=False):
    job_id: str
    status: str
    progress: int
    total_files: int
    completed_files: int
    failed_files: int
    first_filename: str
    created_at: str
    updated_at: str
    error: str


class JobPage(TypedDict, total=False):
    jobs: List[JobSummary]
    next_cursor: str


class FileProgress(TypedDict, total=False):
    status: str
    progress: int
    filename: str
    error: str


class JobProgress(TypedDict, total=False):
    job_id: str
    status: str
    overall_progress: int
    total_files: int
    completed_files: int
    failed_files: int
    files: Dict[str, FileProgress]


class RateLimit(TypedDict, total=False):
    policy: str
    scope: str
    route: str
    algorithm: str
    cost: str
    limit: int
    window_secs: int
    remaining: int
    reset: int


class RateLimits(TypedDict, total=False):
    enforced: bool
    policies: List[RateLimit]


class StoredModel(TypedDict):
    model_id: str
    fresh_until: str
    expires_at: str
    tags: List[str]


class Lock(TypedDict):
    resource: str
    token: str
    fencing_token: int
    expires_at: str
