"""Fixtures: the real gateway, and a worker that reports to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import TIMEOUT_SECS, RedisServer, running_gateway

KEY = "a-key"


class Gateway:
    """A running gateway, and the requests that a worker sends to it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def send(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
            return json.load(response)

    def report(self, job_id: str, percent: int, file_id: str = "file_000") -> None:
        self.send("POST", f"/api/v1/jobs/{job_id}/files/{file_id}/progress", {"progress": percent})

    def complete(self, job_id: str, file_id: str = "file_000") -> None:
        model = {
            "filename": "chair.glb",
            "size": 1,
            "mime_type": "model/gltf-binary",
            "url": "https://models.example/chair.glb",
        }
        path = f"/api/v1/jobs/{job_id}/files/{file_id}/result"
        self.send("PUT", path, {"status": "completed", "result": model})

    def fail(self, job_id: str, file_id: str = "file_000") -> None:
        path = f"/api/v1/jobs/{job_id}/files/{file_id}/result"
        self.send("PUT", path, {"status": "failed", "error": "no object in the picture"})


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that closes streams every second, so that clients must reconnect."""
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    settings = {"I2M__SSE__DEFAULT_TIMEOUT": "1s", "I2M__SSE__RETRY": "50ms"}
    with (
        RedisServer.start() as server,
        running_gateway(server.gateway_url, log, **settings) as base_url,
    ):
        yield Gateway(base_url)


@pytest.fixture
def package() -> Path:
    return Path(__file__).resolve().parents[1]
