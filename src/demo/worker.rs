//! A simulated worker: reports progress, then the same sample model for each picture.

use std::{ops::ControlFlow, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::service::{File, Job, Service};

const MAX_CONCURRENCY: usize = 3;
const STEPS: [(u8, &str); 6] = [
    (5, "Fetching the picture"),
    (20, "Cutting out the object"),
    (40, "Estimating its depth"),
    (60, "Building the mesh"),
    (80, "Painting the texture"),
    (95, "Packing the model"),
];

/// Simulates work on all files of `job`, each for about `per_file`. Stops early if the job ends first.
pub(super) async fn run(service: &Service, job: &Job, per_file: Duration) -> Result<()> {
    let pause = per_file / u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    // The first files start with an offset, so that they are not all at the same step.
    let delays = (0..)
        .map(|index| pause * index)
        .take(MAX_CONCURRENCY)
        .chain(std::iter::repeat(Duration::ZERO));
    stream::iter(job.files.iter().zip(delays))
        .map(|(file, delay)| async move {
            sleep(delay).await;
            work_on(service, job, file, pause).await
        })
        .buffer_unordered(MAX_CONCURRENCY)
        .try_collect()
        .await
}

async fn work_on(service: &Service, job: &Job, file: &File, pause: Duration) -> Result<()> {
    let path = format!("/api/v1/jobs/{}/files/{}", job.id, file.file_id);
    for (progress, message) in STEPS {
        let step = json!({ "progress": progress, "message": message });
        if let ControlFlow::Break(()) =
            service.report(Method::POST, &format!("{path}/progress"), &step).await?
        {
            return Ok(());
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    }
    _ = service.report(Method::PUT, &format!("{path}/result"), &sample_result(file)).await?;
    Ok(())
}

/// The result of a file: a sample model that the service itself serves.
fn sample_result(file: &File) -> serde_json::Value {
    let name = file.filename.rsplit_once('.').map_or(file.filename.as_str(), |(stem, _)| stem);
    json!({
        "status": "completed",
        "result": {
            "filename": format!("{name}.glb"),
            "size": crate::api::dashboard::SAMPLE_MODEL.len(),
            "mime_type": "model/gltf-binary",
            "url": crate::api::dashboard::SAMPLE_MODEL_PATH,
        },
    })
}
