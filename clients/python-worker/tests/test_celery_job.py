"""Reports from a task to a real result backend, with a fake clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from celery import Celery, Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from conftest import RedisServer, ResultListener
from image2model_worker import CeleryFile, CeleryJob, JobCancelled

MODEL = {"filename": "a.glb", "size": 1, "mime_type": "model/gltf-binary", "url": "/a.glb"}
JOB = "00000000-0000-4000-8000-000000000001"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def running_task(app: Celery, base: type[Task] = Task) -> Iterator[Task]:
    """Yields a task with the request context that a worker sets up."""

    @app.task(bind=True, base=base)
    def task(self: Task) -> None: ...

    task.push_request(id=str(uuid.uuid4()), called_directly=False)
    yield task
    task.pop_request()


@pytest.fixture
def app(redis_server: RedisServer) -> Celery:
    url = redis_server.celery_url
    return Celery(broker=url, backend=url, set_as_current=False)


@pytest.fixture
def task(app: Celery) -> Iterator[Task]:
    with running_task(app) as task:
        yield task


def reported_files(results: ResultListener, task: Task) -> list[Any]:
    return [message["result"]["files"] for message in results.messages(task.request.id)]


def test_progress_reports_are_rate_limited(results: ResultListener, task: Task) -> None:
    clock = Clock()
    job = CeleryJob(task, JOB, ["a.png"], max_per_sec=5, clock=clock)
    for percent in range(100):
        job.files[0].progress(percent)
        clock.now = (percent + 1) / 50

    percents = [files["file_000"]["progress"] for files in reported_files(results, task)]
    assert percents == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]


def test_the_result_of_a_file_is_always_sent(results: ResultListener, task: Task) -> None:
    with CeleryJob(task, JOB, ["a", "b", "c"], max_per_sec=1, clock=Clock()) as job:
        job.files[0].progress(1)
        job.files[0].progress(2)
        job.files[0].complete(**MODEL)
        job.files[1].progress(3)
        job.files[1].fail("no")

    done, failed = {"status": "completed", "result": MODEL}, {"status": "failed", "error": "no"}
    left = {"status": "failed", "error": "not processed"}
    assert reported_files(results, task) == [
        {"file_000": {"progress": 1}},
        {"file_000": done},
        {"file_000": done, "file_001": failed},
        {"file_000": done, "file_001": failed, "file_002": left},
    ]


def test_the_cancellation_check_queries_redis_at_most_once_a_second(
    redis_server: RedisServer, task: Task
) -> None:
    def exists_count() -> int:
        stats = redis_server.client.info("commandstats")
        return int(stats.get("cmdstat_exists", {}).get("calls", 0))

    clock, before = Clock(), exists_count()
    job = CeleryJob(task, JOB, ["a.png"], clock=clock)
    assert not any(job.cancelled for _ in range(100))
    assert exists_count() == before + 1

    redis_server.client.set(f"i2m:cancelled:{task.request.id}", "any", ex=60)
    clock.now = 0.99
    assert not job.cancelled
    clock.now = 1.0
    assert job.cancelled
    with pytest.raises(JobCancelled):
        job.raise_if_cancelled()
    assert exists_count() == before + 2
    assert issubclass(JobCancelled, Ignore)


def test_files_left_in_a_cancelled_job_are_failed_as_cancelled(
    redis_server: RedisServer, task: Task
) -> None:
    clock = Clock()
    with CeleryJob(task, JOB, ["a.png"], clock=clock) as job:
        redis_server.client.set(f"i2m:cancelled:{task.request.id}", "1", ex=60)
        clock.now = 1.0
        assert job.cancelled
    assert job.result["files"] == {"file_000": {"status": "failed", "error": "cancelled"}}


def test_other_result_backends_have_no_cancellation_check() -> None:
    app = Celery(backend="cache+memory://", set_as_current=False)
    with running_task(app) as task, CeleryJob(task, JOB, ["a.png"]) as job:
        job.raise_if_cancelled()
        job.files[0].complete(**MODEL)
    assert job.result["files"]["file_000"]["status"] == "completed"


def test_a_task_called_as_a_function_sends_nothing(results: ResultListener, app: Celery) -> None:
    @app.task(bind=True)
    def process(self: Task) -> Any:
        with CeleryJob(self, JOB, ["a.png"]) as job:
            job.files[0].complete(**MODEL)
        return job.result

    assert process() == {
        "job_id": JOB,
        "files": {"file_000": {"status": "completed", "result": MODEL}},
    }
    assert results.messages("None") == []


def test_files_may_be_reported_from_threads(results: ResultListener, task: Task) -> None:
    with CeleryJob(task, JOB, [f"{n}.png" for n in range(20)]) as job:
        threads = [Thread(target=lambda file=file: file.complete(**MODEL)) for file in job.files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # Each message contains one more finished file.
    assert [len(files) for files in reported_files(results, task)] == list(range(1, 21))


def test_the_first_result_of_a_file_is_final(results: ResultListener, task: Task) -> None:
    with CeleryFile(task, JOB, "file_004", "a.png") as file:
        file.fail(KeyError())
        file.complete(**MODEL)
        file.progress(50)
        assert file.is_finished

    assert reported_files(results, task) == [{"file_004": {"status": "failed", "error": "KeyError"}}]


def test_the_task_continues_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = "redis+socket:///nonexistent/redis.sock?virtual_host=0"
    app = Celery(backend=nowhere, set_as_current=False)
    app.conf.result_backend_transport_options = {"retry_policy": {"max_retries": 0}}
    with running_task(app) as task, CeleryJob(task, JOB, ["a.png"]) as job:
        job.files[0].progress(50)
        job.files[0].complete(**MODEL)

    assert job.result["files"]["file_000"]["status"] == "completed"
    messages = [record.message for record in caplog.records if record.name.startswith("image2model_worker")]
    assert messages == [
        "could not check whether the job was cancelled; the task continues",
        "could not report progress; the task continues",
        "could not report progress; the task continues",
    ]


def test_a_soft_time_limit_during_a_report_ends_the_task(app: Celery) -> None:
    class TimeLimited(Task):
        abstract = True

        def update_state(self, *_: Any, **__: Any) -> None:
            raise SoftTimeLimitExceeded()

    with running_task(app, TimeLimited) as task:
        job = CeleryJob(task, JOB, ["a.png"])
        with pytest.raises(SoftTimeLimitExceeded):
            job.files[0].progress(1)


@pytest.mark.parametrize(
    "more", [{"at": object()}, {"ratio": float("nan")}, {"title": "\udcff"}], ids=str
)
def test_a_model_that_is_not_valid_json_is_rejected_at_once(task: Task, more: dict[str, Any]) -> None:
    file = CeleryFile(task, JOB, "file_000")
    with pytest.raises((TypeError, ValueError)):
        file.complete(**MODEL, **more)
    assert not file.is_finished


@pytest.mark.parametrize(
    ("progress", "expected"), [(-1, 0), (0, 0), (99.9, 99), (100.2, 100), (float("inf"), 100)]
)
def test_progress_is_clamped_to_a_whole_percentage(
    results: ResultListener, task: Task, progress: float, expected: int
) -> None:
    CeleryFile(task, JOB, "file_000").progress(progress)
    assert reported_files(results, task) == [{"file_000": {"progress": expected}}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x" * 5000, "x" * 4096), ("é" * 2049, "é" * 2048), ("a\udcffb", "a?b"), ("", "failed")],
    ids=["long", "cut between characters", "lone surrogate", "empty"],
)
def test_error_texts_are_made_valid_for_the_gateway(
    results: ResultListener, task: Task, text: str, expected: str
) -> None:
    CeleryFile(task, JOB, "file_000").fail(text)
    assert reported_files(results, task) == [{"file_000": {"status": "failed", "error": expected}}]


@pytest.mark.parametrize(
    "make",
    [
        lambda task: CeleryJob(task, filenames=["a.png"]),
        lambda task: CeleryFile(task, JOB),
        lambda task: CeleryJob(task, JOB, ["a.png"], file_ids=[]),
    ],
    ids=["no job", "no file", "fewer ids than names"],
)
def test_job_id_and_file_ids_are_required(task: Task, make: Callable[[Task], object]) -> None:
    with pytest.raises((TypeError, ValueError), match="job_id|file_id"):
        make(task)
