"""Each call of the API as data, so that both clients make the same."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Mapping, Optional, Union
from urllib.parse import quote

from .models import NewFile

FileLike = Union[str, NewFile]


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    json: Optional[Mapping[str, Any]] = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    # Whether it may come twice; what may not is repeated only if it was refused or never sent.
    repeatable: bool = True


def create(
    files: Iterable[FileLike], params: Optional[Mapping[str, Any]], idempotency_key: Optional[str]
) -> Call:
    listed = [{"filename": it} if isinstance(it, str) else it for it in files]
    body = {"files": listed, "params": dict(params or {})}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call("POST", "/api/v1/jobs", json=body, headers=headers)


def listing(
    status: Optional[str], created_after: Optional[str], limit: int, cursor: Optional[str]
) -> Call:
    asked = {"status": status, "created_after": created_after, "limit": limit, "cursor": cursor}
    return Call("GET", "/api/v1/jobs", params={k: v for k, v in asked.items() if v is not None})


def of_job(method: str, job_id: str, below: str = "") -> Call:
    path = f"/api/v1/jobs/{quote(job_id, safe='')}{below}"
    return Call(method, path, repeatable=method != "POST")


def downloads(job_id: str) -> Call:
    return Call("GET", f"/api/v1/download/{quote(job_id, safe='')}/all")


def rate_limits() -> Call:
    return Call("GET", "/api/v1/rate-limits")


def acquire(resource: str, ttl: int, wait: int) -> Call:
    body = {"ttl_secs": ttl, "wait_secs": wait}
    return Call("POST", _lock(resource), json=body, repeatable=False)


def extend(resource: str, token: str, ttl: int) -> Call:
    return Call("PATCH", _lock(resource), json={"token": token, "ttl_secs": ttl})


def release(resource: str, token: str) -> Call:
    return Call("DELETE", _lock(resource), params={"token": token}, repeatable=False)


def model(method: str, model_id: str, body: Optional[Mapping[str, Any]] = None) -> Call:
    return Call(method, f"/api/v1/models/{quote(model_id, safe='')}", json=body)


def store(data: Any, ttl: Optional[int], tags: Iterable[str]) -> Dict[str, Any]:
    """The body of a model that is stored."""
    body: Dict[str, Any] = {"data": data, "tags": list(tags)}
    return body if ttl is None else {**body, "ttl_secs": ttl}


def invalidate(tag: Optional[str], pattern: Optional[str]) -> Call:
    asked = {"tag": tag, "pattern": pattern}
    body = {name: value for name, value in asked.items() if value is not None}
    return Call("POST", "/api/v1/admin/cache/invalidate", json=body)


def _lock(resource: str) -> str:
    return f"/api/v1/locks/{quote(resource, safe=':')}"


def encode_query(params: Mapping[str, Any]) -> Dict[str, str]:
    return {name: str(value) for name, value in params.items()}
