"""The result messages of a real Celery worker, with tasks that use the package and tasks that do not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from conftest import Message, RedisServer, ResultListener, Worker

PROCESS_BATCH = "app.workers.tasks.process_batch"


def metas(messages: list[Message]) -> list[Any]:
    return [message["result"] for message in messages if message["status"] == "PROGRESS"]


def statuses(messages: list[Message]) -> list[str]:
    return [message["status"] for message in messages]


def completed(job_id: str, stem: str) -> dict[str, Any]:
    result = {
        "filename": f"{stem}.glb",
        "size": 1234,
        "mime_type": "model/gltf-binary",
        "url": f"https://models.example/{job_id}/{stem}.glb",
    }
    return {"status": "completed", "result": result}


def test_every_message_contains_the_latest_state_of_all_files(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    task = worker.send(PROCESS_BATCH, job_id, ["a.png", "fail.png", "c.png"])
    messages = results.wait_for(task, "SUCCESS")

    loading = {"progress": 10, "message": "loading"}
    meshing = {"progress": 60, "message": "meshing"}
    a, c = completed(job_id, "a"), completed(job_id, "c")
    b = {"status": "failed", "error": "cannot make a model of fail.png"}
    files = [
        {"file_000": loading},
        {"file_000": meshing},
        {"file_000": a},
        {"file_000": a, "file_001": loading},
        {"file_000": a, "file_001": b},
        {"file_000": a, "file_001": b, "file_002": loading},
        {"file_000": a, "file_001": b, "file_002": meshing},
        {"file_000": a, "file_001": b, "file_002": c},
    ]
    assert metas(messages) == [{"job_id": job_id, "files": states} for states in files]
    assert statuses(messages) == ["STARTED", *["PROGRESS"] * len(files), "SUCCESS"]
    assert messages[-1]["result"] == {"job_id": job_id, "files": files[-1]}


def test_job_id_file_ids_and_attempt_come_from_the_headers(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    headers = {"job_id": job_id, "file_ids": ["file_003", "file_007"], "attempt": 2}
    task = worker.send(PROCESS_BATCH, None, ["a.png", "fail.png"], **headers)
    messages = results.wait_for(task, "SUCCESS")

    assert metas(messages)[0] == {
        "job_id": job_id,
        "files": {"file_003": {"progress": 10, "message": "loading", "attempt": 2}},
    }
    assert messages[-1]["result"] == {
        "job_id": job_id,
        "files": {
            "file_003": {**completed(job_id, "a"), "attempt": 2},
            "file_007": {
                "status": "failed",
                "error": "cannot make a model of fail.png",
                "attempt": 2,
            },
        },
    }


def test_a_task_for_one_file_reports_only_that_file(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    task = worker.send("tests.one_file", "e.png", job_id=job_id, file_id="file_004")
    messages = results.wait_for(task, "SUCCESS")

    end = {"status": "completed", "result": messages[-1]["result"]["files"]["file_004"]["result"]}
    files = [{"file_004": {"progress": 50}}, {"file_004": end}]
    assert metas(messages) == [{"job_id": job_id, "files": states} for states in files]
    assert messages[-1]["result"] == {"job_id": job_id, "files": files[-1]}


def test_an_exception_fails_the_unfinished_files_and_the_task(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    task = worker.send(PROCESS_BATCH, job_id, ["a.png", "raise.png", "c.png"])
    messages = results.wait_for(task, "FAILURE")

    boom = {"status": "failed", "error": "boom"}
    files = {"file_000": completed(job_id, "a"), "file_001": boom, "file_002": boom}
    assert metas(messages)[-1] == {"job_id": job_id, "files": files}
    assert messages[-1]["result"]["exc_type"] == "ValueError"
    assert messages[-1]["result"]["exc_message"] == ["boom"]


def test_files_left_unfinished_are_failed(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    task = worker.send("tests.leave_unfinished", job_id, ["a.png", "b.png", "c.png"])
    messages = results.wait_for(task, "SUCCESS")

    files = messages[-1]["result"]["files"]
    assert files["file_000"]["status"] == "completed"
    assert files["file_001"] == files["file_002"] == {"status": "failed", "error": "not processed"}
    assert metas(messages)[-1] == messages[-1]["result"]


@pytest.mark.parametrize("task", [PROCESS_BATCH, "tests.fail_at_first"])
def test_a_retry_fails_no_file(worker: Worker, results: ResultListener, job_id: str, task: str) -> None:
    messages = results.wait_for(worker.send(task, job_id, ["retry.png"]), "SUCCESS")

    # RETRY may arrive after the second run has started, or not at all if that run has ended.
    assert statuses(messages).count("STARTED") == 2
    states = [meta["files"]["file_000"] for meta in metas(messages)]
    assert ["status" in state for state in states] == [False] * (len(states) - 1) + [True]
    assert states[-1]["status"] == "completed"


def test_the_last_automatic_retry_fails_the_files(
    worker: Worker, results: ResultListener, job_id: str
) -> None:
    task = worker.send("tests.fail_at_last", job_id, ["a.png"])
    messages = results.wait_for(task, "FAILURE")

    failed = {"file_000": {"status": "failed", "error": "failed 2 times"}}
    assert metas(messages) == [{"job_id": job_id, "files": failed}]


def test_a_cancelled_job_ends_without_a_failure(
    worker: Worker, results: ResultListener, redis_server: RedisServer, job_id: str
) -> None:
    task = worker.send(PROCESS_BATCH, job_id, ["hang.png", "b.png"])
    results.wait_for(task, "PROGRESS")
    redis_server.client.set(f"i2m:cancelled:{task}", "1", ex=60)
    worker.wait_until_ignored(task)

    messages = results.messages(task)
    assert statuses(messages) == ["STARTED", "PROGRESS"]
    assert metas(messages)[0]["files"] == {"file_000": {"progress": 10, "message": "loading"}}


def test_a_job_cancelled_in_the_queue_does_not_start(
    worker: Worker, results: ResultListener, redis_server: RedisServer, job_id: str
) -> None:
    task = str(uuid.uuid4())
    redis_server.client.set(f"i2m:cancelled:{task}", "1", ex=60)
    worker.send(PROCESS_BATCH, job_id, ["a.png"], task_id=task)
    worker.wait_until_ignored(task)

    assert statuses(results.messages(task)) == ["STARTED"]


def test_a_plain_worker_reports_its_steps(worker: Worker, results: ResultListener, job_id: str) -> None:
    task = worker.send("app.workers.tasks.plain", job_id, ["a.png", "b.png"])
    messages = results.wait_for(task, "SUCCESS")

    assert metas(messages) == [
        {"current": 0, "total": 2, "status": "processing a.png"},
        {"current": 1, "total": 2, "status": "processing b.png"},
    ]
    assert messages[-1]["result"]["status"] == "completed"


def test_a_plain_failure_has_no_exception(worker: Worker, results: ResultListener, job_id: str) -> None:
    task = worker.send("app.workers.tasks.plain_failure", job_id, ["a.png"])
    messages = results.wait_for(task, "FAILURE")

    assert messages[-1]["result"] == {"error": "no model could be made"}


def test_a_hard_time_limit_is_a_failure(worker: Worker, results: ResultListener, job_id: str) -> None:
    task = worker.send("app.workers.tasks.time_limited", job_id, ["a.png"])
    messages = results.wait_for(task, "FAILURE")

    assert messages[-1]["result"]["exc_type"] == "TimeLimitExceeded"
