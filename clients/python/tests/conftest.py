"""Real servers for the tests: Redis on a unix socket, a Celery worker, and the gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from celery import Celery

PACKAGE = Path(__file__).resolve().parents[1]
WORKER_APP = PACKAGE.parents[1] / "tests" / "python"
WAIT_SECS = 20.0

T = TypeVar("T")
Message = dict[str, Any]


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """What `look` returns as soon as it is true."""
    end = time.monotonic() + WAIT_SECS
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {WAIT_SECS} s in vain for {what}")


@contextmanager
def running(
    command: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command`, and ends it with all its children."""
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
            process.wait(WAIT_SECS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class RedisServer:
    """A redis-server of the tests' own, without a port."""

    def __init__(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.celery_url = f"redis+socket://{socket}?virtual_host=0"
        self.gateway_url = f"redis+unix://{socket}"
        self.client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[RedisServer]:
        # Not pytest's own directories: a socket's path may have about 100 bytes.
        directory = Path(tempfile.mkdtemp(prefix="i2m-"))
        socket = directory / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
        try:
            with running(["redis-server", *options], directory / "redis.log") as process:
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


class Results:
    """What Celery's result backend tells those who listen, as the gateway does."""

    def __init__(self, client: redis.Redis) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._pubsub.psubscribe("celery-task-meta-*")
        wait_for("the subscription", lambda: self._pubsub.get_message(timeout=1))
        self._heard: list[Message] = []

    def of(self, task_id: str) -> list[Message]:
        """The task's messages so far."""
        while message := self._pubsub.get_message(timeout=0):
            self._heard.append(json.loads(message["data"]))
        return [it for it in self._heard if it["task_id"] == task_id]

    def until(self, task_id: str, status: str) -> list[Message]:
        """The task's messages up to the first with `status`."""

        def look() -> list[Message] | None:
            messages = self.of(task_id)
            return messages if any(it["status"] == status for it in messages) else None

        return wait_for(f"{status} of {task_id}", look)

    def close(self) -> None:
        self._pubsub.close()


class Worker:
    """A Celery worker, and who sends it tasks."""

    def __init__(self, server: RedisServer, log: Path) -> None:
        self._app = Celery(broker=server.celery_url, backend=server.celery_url)
        self._log = log

    def send(self, task: str, *args: Any, task_id: str | None = None, **headers: Any) -> str:
        """Sends a task and returns its id."""
        task_id = task_id or str(uuid.uuid4())
        self._app.send_task(
            task, args, task_id=task_id, queue="batch_processing", headers=headers or None
        )
        return task_id

    def wait_until_ignored(self, task_id: str) -> None:
        """Until the task ended by `Ignore`, of which Celery tells nobody but its log."""
        wait_for(f"the end of {task_id}", lambda: f"[{task_id}] ignored" in self._log.read_text())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def results(redis_server: RedisServer) -> Iterator[Results]:
    results = Results(redis_server.client)
    yield results
    results.close()


@pytest.fixture(scope="session")
def worker(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "reporting_app", "worker"]
    options = ["--loglevel=INFO", "--concurrency=2", "-Q", "batch_processing"]
    unneeded = ["--without-gossip", "--without-mingle"]
    path = [PACKAGE / "src", PACKAGE / "tests", WORKER_APP]
    env = {
        "CELERY_BROKER_URL": redis_server.celery_url,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    with running([*command, *options, *unneeded], log, env):
        yield Worker(redis_server, log)


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())


class Gateway:
    """The real service, on a Redis of its own that can be made to hang."""

    def __init__(self, base_url: str, redis_process: subprocess.Popen[bytes]) -> None:
        self.base_url = base_url
        self._redis_process = redis_process

    @contextmanager
    def without_redis(self) -> Iterator[Callable[[], None]]:
        """Redis hangs until the function that this yields is called, or the block ends."""
        self._redis_process.send_signal(signal.SIGSTOP)

        def resume() -> None:
            self._redis_process.send_signal(signal.SIGCONT)

        try:
            yield resume
        finally:
            resume()

    def create_job(self, key: str, *filenames: str) -> str:
        """A new job of `key`'s, as an upload API makes it."""
        files = [{"filename": it} for it in filenames]
        request = urllib.request.Request(
            f"{self.base_url}/api/v1/jobs",
            data=json.dumps({"files": files}).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECS) as answer:
            return str(json.load(answer)["job_id"])


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    binary = os.environ.get("I2M_BINARY")
    if not binary:
        pytest.fail("I2M_BINARY is not set: these tests need the path of image2model-gateway")
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    with RedisServer.start() as server:
        env = {
            "I2M__REDIS__URL": server.gateway_url,
            "I2M__SERVER__LISTEN": "127.0.0.1:0",
            "I2M__LOG__FORMAT": "json",
        }
        with running([str(Path(binary).resolve())], log, env) as process:

            def address() -> str | None:
                assert process.poll() is None, log.read_text()
                # Only whole lines; and one that is no JSON is for people.
                lines = log.read_text().splitlines(keepends=True)
                events = [json.loads(it) for it in lines if it[0] == "{" and it[-1] == "\n"]
                found = (it["address"] for it in events if it["message"] == "listening")
                return next(found, None)

            base_url = f"http://{wait_for('the gateway', address)}"
            wait_for("its Redis", lambda: is_ready(base_url))
            yield Gateway(base_url, server.process)


def is_ready(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/readyz", timeout=WAIT_SECS):
            return True
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
