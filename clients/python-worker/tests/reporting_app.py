"""The worker under test: the tasks of `worker_app`, and tasks that only these tests need."""

from __future__ import annotations

from typing import Any

from celery import Task
from image2model_worker import CeleryFile, CeleryJob
from worker_app import app

MODEL = {"filename": "a.glb", "size": 1, "mime_type": "model/gltf-binary", "url": "/a.glb"}


@app.task(bind=True, name="tests.one_file")
def one_file(self: Task, filename: str) -> Any:
    """Reads the job id and the file id from the message's headers only."""
    with CeleryFile(self, filename=filename) as file:
        file.progress(50)
        file.complete(**MODEL)
    return file.result


@app.task(bind=True, name="tests.leave_unfinished")
def leave_unfinished(self: Task, job_id: str, filenames: list[str]) -> Any:
    with CeleryJob(self, job_id, filenames) as job:
        job.files[0].complete(**MODEL)
        job.files[1].progress(99)
    return job.result


@app.task(
    bind=True, name="tests.fail_at_first", autoretry_for=(ConnectionError,), default_retry_delay=0
)
def fail_at_first(self: Task, job_id: str, filenames: list[str]) -> Any:
    with CeleryJob(self, job_id, filenames) as job:
        job.files[0].progress(5)
        if self.request.retries == 0:
            raise ConnectionError("try again")
        job.files[0].complete(**MODEL)
    return job.result


@app.task(
    bind=True,
    name="tests.fail_at_last",
    autoretry_for=(ConnectionError,),
    default_retry_delay=0,
    max_retries=1,
)
def fail_at_last(self: Task, job_id: str, filenames: list[str]) -> None:
    with CeleryJob(self, job_id, filenames):
        raise ConnectionError(f"failed {self.request.retries + 1} times")
