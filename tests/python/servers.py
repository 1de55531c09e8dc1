"""Starts the servers for tests in Python: Redis on a unix socket, and the gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import redis

TIMEOUT_SECS = 20.0

T = TypeVar("T")


def wait_for(description: str, poll: Callable[[], T | None]) -> T:
    """Calls `poll` until it returns a true value, and returns that value."""
    end = time.monotonic() + TIMEOUT_SECS
    while time.monotonic() < end:
        if found := poll():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {TIMEOUT_SECS} s for {description}")


@contextmanager
def running_process(
    command: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command`, and stops it at the end of the block. Kills its process group if it does not stop."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class RedisServer:
    """A redis-server for tests, which listens on a unix socket only."""

    def __init__(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.socket = socket
        self.celery_url = f"redis+socket://{socket}?virtual_host=0"
        self.gateway_url = f"redis+unix://{socket}"
        self.client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[RedisServer]:
        # Directories of pytest are too long: the path of a socket is limited to about 100 bytes.
        directory = Path(tempfile.mkdtemp(prefix="i2m-"))
        socket = directory / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
        try:
            with running_process(["redis-server", *options], directory / "redis.log") as process:
                server = cls(socket, process)
                wait_for("Redis", server.is_up)
                with server.client:
                    yield server
        finally:
            shutil.rmtree(directory)

    def is_up(self) -> bool:
        assert self.process.poll() is None, "redis-server ended"
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running_gateway(redis_url: str, log: Path, *options: str, **settings: str) -> Iterator[str]:
    """Runs the gateway binary in I2M_BINARY, and yields its base URL once the gateway is ready.

    `options` are command-line arguments. `settings` are environment variables, such as I2M__SSE__RETRY="1s".
    """
    binary = os.environ.get("I2M_BINARY")
    if not binary:
        pytest.fail("I2M_BINARY must be set to the path of image2model-gateway")
    env = {
        "I2M__REDIS__URL": redis_url,
        "I2M__SERVER__LISTEN": "127.0.0.1:0",
        "I2M__LOG__FORMAT": "json",
        **settings,
    }
    with running_process([str(Path(binary).resolve()), *options], log, env) as process:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            # Skips an incomplete last line, and lines that are not JSON.
            lines = log.read_text().splitlines(keepends=True)
            events = [json.loads(line) for line in lines if line[0] == "{" and line[-1] == "\n"]
            found = (event["address"] for event in events if event["message"] == "listening")
            return next(found, None)

        base_url = f"http://{wait_for('the gateway', address)}"
        wait_for("/readyz", lambda: is_ready(base_url))
        yield base_url


def is_ready(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/readyz", timeout=TIMEOUT_SECS):
            return True
    except urllib.error.HTTPError as http_error:
        http_error.close()
        return False
