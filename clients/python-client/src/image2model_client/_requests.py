"""The API requests as data, shared by the blocking and the asyncio client."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Mapping, Optional, Union
from urllib.parse import quote

from .models import NewFile

FileLike = Union[str, NewFile]


@dataclass(frozen=True)
class ApiRequest:
    method: str
    path: str
    json: Optional[Mapping[str, Any]] = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    # Whether repeating the request is safe. Other requests are repeated only if they were rejected or never sent.
    idempotent: bool = True


def create_job(
    files: Iterable[FileLike], params: Optional[Mapping[str, Any]], idempotency_key: Optional[str]
) -> ApiRequest:
    file_bodies = [{"filename": file} if isinstance(file, str) else file for file in files]
    body = {"files": file_bodies, "params": dict(params or {})}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return ApiRequest("POST", "/api/v1/jobs", json=body, headers=headers)


def list_jobs(
    status: Optional[str], created_after: Optional[str], limit: int, cursor: Optional[str]
) -> ApiRequest:
    query = {"status": status, "created_after": created_after, "limit": limit, "cursor": cursor}
    params = {name: value for name, value in query.items() if value is not None}
    return ApiRequest("GET", "/api/v1/jobs", params=params)


def job(method: str, job_id: str, suffix: str = "") -> ApiRequest:
    path = f"/api/v1/jobs/{quote(job_id, safe='')}{suffix}"
    return ApiRequest(method, path, idempotent=method != "POST")


def downloads(job_id: str) -> ApiRequest:
    return ApiRequest("GET", f"/api/v1/download/{quote(job_id, safe='')}/all")


def rate_limits() -> ApiRequest:
    return ApiRequest("GET", "/api/v1/rate-limits")


def acquire_lock(resource: str, ttl: int, wait: int) -> ApiRequest:
    body = {"ttl_secs": ttl, "wait_secs": wait}
    return ApiRequest("POST", _lock_path(resource), json=body, idempotent=False)


def extend_lock(resource: str, token: str, ttl: int) -> ApiRequest:
    return ApiRequest("PATCH", _lock_path(resource), json={"token": token, "ttl_secs": ttl})


def release_lock(resource: str, token: str) -> ApiRequest:
    return ApiRequest("DELETE", _lock_path(resource), params={"token": token}, idempotent=False)


def model(method: str, model_id: str, body: Optional[Mapping[str, Any]] = None) -> ApiRequest:
    return ApiRequest(method, f"/api/v1/models/{quote(model_id, safe='')}", json=body)


def model_body(data: Any, ttl: Optional[int], tags: Iterable[str]) -> Dict[str, Any]:
    """The request body that caches a model."""
    body: Dict[str, Any] = {"data": data, "tags": list(tags)}
    return body if ttl is None else {**body, "ttl_secs": ttl}


def invalidate(tag: Optional[str], pattern: Optional[str]) -> ApiRequest:
    selectors = {"tag": tag, "pattern": pattern}
    body = {name: value for name, value in selectors.items() if value is not None}
    return ApiRequest("POST", "/api/v1/admin/cache/invalidate", json=body)


def _lock_path(resource: str) -> str:
    return f"/api/v1/locks/{quote(resource, safe=':')}"


def encode_query(params: Mapping[str, Any]) -> Dict[str, str]:
    return {name: str(value) for name, value in params.items()}
