"""A Celery worker that simulates model generation, for docker-compose.yml."""

import os
import time

from celery import Celery
from image2model_worker import CeleryJob

app = Celery("worker", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_BROKER_URL"])
# The sentinels provide the address of the broker.
app.conf.broker_transport_options = app.conf.result_backend_transport_options = {"master_name": "mymaster"}
app.conf.task_default_queue = "batch_processing"


@app.task(bind=True, name="app.workers.tasks.process_batch")
def process_batch(self, job_id, filenames):
    with CeleryJob(self, job_id, filenames) as job:
        for file in job.files:
            for percent in range(0, 100, 20):
                file.progress(percent, "meshing")
                job.raise_if_cancelled()
                time.sleep(0.5)
            file.complete(
                filename="model.glb", size=81920, mime_type="model/gltf-binary", url="https://cdn.example.com/model.glb"
            )
    return job.result
