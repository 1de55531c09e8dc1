"""Fixtures: Redis on a unix socket, a Celery worker, and the gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from servers import TIMEOUT_SECS, RedisServer, running_gateway, running_process, wait_for

PACKAGE = Path(__file__).resolve().parents[1]
WORKER_APP = PACKAGE.parents[1] / "tests" / "python"
Message = dict[str, Any]


class ResultListener:
    """Subscribes to the messages of Celery's result backend, as the gateway does."""

    def __init__(self, client: redis.Redis) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._pubsub.psubscribe("celery-task-meta-*")
        wait_for("the subscription", lambda: self._pubsub.get_message(timeout=1))
        self._received: list[Message] = []

    def messages(self, task_id: str) -> list[Message]:
        """Returns the messages of a task received so far."""
        while message := self._pubsub.get_message(timeout=0):
            self._received.append(json.loads(message["data"]))
        return [message for message in self._received if message["task_id"] == task_id]

    def wait_for(self, task_id: str, status: str) -> list[Message]:
        """Waits for a message with `status`, and returns the messages of the task received so far."""

        def poll() -> list[Message] | None:
            messages = self.messages(task_id)
            return messages if any(message["status"] == status for message in messages) else None

        return wait_for(f"{status} of {task_id}", poll)

    def close(self) -> None:
        self._pubsub.close()


class Worker:
    """A running Celery worker, and a producer that sends it tasks."""

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
        """Waits until the task ended by `Ignore`, which Celery reports only in its log."""
        wait_for(f"the end of {task_id}", lambda: f"[{task_id}] ignored" in self._log.read_text())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def results(redis_server: RedisServer) -> Iterator[ResultListener]:
    results = ResultListener(redis_server.client)
    yield results
    results.close()


@pytest.fixture(scope="session")
def worker(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "reporting_app", "worker"]
    options = ["--loglevel=INFO", "--concurrency=2", "-Q", "batch_processing"]
    disabled = ["--without-gossip", "--without-mingle"]
    path = [PACKAGE / "src", PACKAGE / "tests", WORKER_APP]
    env = {
        "CELERY_BROKER_URL": redis_server.celery_url,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    with running_process([*command, *options, *disabled], log, env):
        yield Worker(redis_server, log)


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())


class Gateway:
    """A running gateway, with its own Redis that can be paused."""

    def __init__(self, base_url: str, redis_process: subprocess.Popen[bytes]) -> None:
        self.base_url = base_url
        self._redis_process = redis_process

    @contextmanager
    def paused_redis(self) -> Iterator[Callable[[], None]]:
        """Pauses Redis until the yielded function is called or the block ends."""
        self._redis_process.send_signal(signal.SIGSTOP)

        def resume() -> None:
            self._redis_process.send_signal(signal.SIGCONT)

        try:
            yield resume
        finally:
            resume()

    def create_job(self, key: str, *filenames: str) -> str:
        """Creates a job that belongs to `key`, and returns its id."""
        files = [{"filename": filename} for filename in filenames]
        request = urllib.request.Request(
            f"{self.base_url}/api/v1/jobs",
            data=json.dumps({"files": files}).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
            return str(json.load(response)["job_id"])


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    with RedisServer.start() as server, running_gateway(server.gateway_url, log) as base_url:
        yield Gateway(base_url, server.process)
