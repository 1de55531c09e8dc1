"""The Celery tasks of the integration tests: one uses image2model-worker, the others do not.

    cd tests/python
    CELERY_BROKER_URL=redis+socket:///tmp/redis.sock PYTHONPATH=../../clients/python-worker/src \
        python -m celery -A worker_app worker --loglevel=INFO --concurrency=2 \
        -Q batch_processing --without-gossip --without-mingle

CELERY_BROKER_URL is a Celery URL: `redis://host:port/db`, or `redis+socket:///path?virtual_host=db` for a unix
socket. CELERY_RESULT_BACKEND defaults to the same Redis.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from image2model_worker import CeleryJob, JobFile

BROKER = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")

app = Celery(
    "worker_app",
    broker=BROKER,
    backend=os.environ.get("CELERY_RESULT_BACKEND", BROKER),
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=3600,
    task_default_queue="batch_processing",
    task_track_started=True,
    worker_prefetch_multiplier=1,
)

STEP_SECS = 0.05
SLOW_SECS = 2.0


@app.task(bind=True, name="app.workers.tasks.process_batch")
def process_batch(self: Task, job_id: str, filenames: list[str]) -> dict[str, Any]:
    """Processes each file. `fail`, `raise`, `hang`, `slow`, `trace` or `retry` in its name selects an outcome."""
    with CeleryJob(self, job_id, filenames) as job:
        for file in job.files:
            process(self, job, file)
    return job.result


def process(task: Task, job: CeleryJob, file: JobFile) -> None:
    name = file.filename
    file.progress(10, "loading")
    if "raise" in name:
        raise ValueError("boom")
    if "retry" in name and task.request.retries == 0:
        raise task.retry(countdown=0.1)
    if "hang" in name:
        work(job, float("inf"))
    if "slow" in name:
        work(job, SLOW_SECS)
    if "trace" in name:
        # A file's error is all that a test sees of the task's request.
        file.fail(task.request.traceparent)
        return
    if "fail" in name:
        file.fail(f"cannot make a model of {name}")
        return
    file.progress(60, "meshing")
    stem = os.path.splitext(name)[0]
    file.complete(
        filename=f"{stem}.glb",
        size=1234,
        mime_type="model/gltf-binary",
        url=f"https://models.example/{job.job_id}/{stem}.glb",
    )


def work(job: CeleryJob, secs: float) -> None:
    """Simulates work for `secs`, or until the job is cancelled."""
    end = time.monotonic() + secs
    while time.monotonic() < end:
        job.raise_if_cancelled()
        time.sleep(STEP_SECS)


@app.task(bind=True, name="app.workers.tasks.plain")
def plain(self: Task, job_id: str, filenames: list[str]) -> dict[str, Any]:
    """Reports as a worker without image2model-worker does."""
    total = len(filenames)
    for current, filename in enumerate(filenames):
        status = f"processing {filename}"
        self.update_state(
            state="PROGRESS", meta={"current": current, "total": total, "status": status}
        )
    return {"job_id": job_id, "status": "completed", "total_files": total}


@app.task(bind=True, name="app.workers.tasks.plain_failure")
def plain_failure(self: Task, job_id: str, filenames: list[str]) -> None:
    """Stores FAILURE as this product's tasks do: a dict without the `exc_type` that Celery writes."""
    self.update_state(state="FAILURE", meta={"error": "no model could be made"})
    raise Ignore()


@app.task(name="app.workers.tasks.time_limited", time_limit=1)
def time_limited(job_id: str, filenames: list[str]) -> None:
    """Exceeds its hard time limit, so the worker process is killed."""
    time.sleep(60)
