//! Follows a job's stream to its end, as a browser's `EventSource` does.

use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use tokio::time::sleep;

use super::{
    service::{Job, Service},
    terminal::Terminal,
};

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed { successful: u32, total: u32 },
    Failed { error: String },
}

/// Prints each event of `job` until the job ends. Reconnects after the last event if the connection closes earlier.
pub(super) async fn follow(service: &Service, job: &Job, terminal: &mut Terminal) -> Result<End> {
    let mut last_event_id: Option<String> = None;
    let mut retry = Duration::from_secs(3);
    loop {
        let Some(response) = service.follow(job, last_event_id.as_deref()).await? else {
            bail!("the stream ended without the result of the job");
        };
        let mut events = SseByteStream::new(response.bytes_stream());
        // An error means that the connection was lost.
        while let Some(Ok(event)) = events.next().await {
            if let Some(ms) = event.retry {
                retry = Duration::from_millis(ms);
            }
            if event.id.is_some() {
                last_event_id.clone_from(&event.id);
            }
            if event.data.is_some() {
                terminal.event(&event)?;
            }
            if let Some(end) = end_of(&event) {
                return Ok(end);
            }
        }
        terminal
            .print(&format!("Connection closed; reconnecting in {:.1} s.", retry.as_secs_f64()))?;
        sleep(retry).await;
    }
}

#[derive(Deserialize)]
struct Completed {
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    total_files: u32,
    successful_files: u32,
}

#[derive(Deserialize)]
struct Failed {
    error: String,
}

fn end_of(event: &Sse) -> Option<End> {
    let data = event.data.as_deref()?;
    match event.event.as_deref()? {
        "task_completed" => {
            let Summary { successful_files: successful, total_files: total } =
                serde_json::from_str::<Completed>(data).ok()?.summary;
            Some(End::Completed { successful, total })
        }
        "task_failed" => {
            Some(End::Failed { error: serde_json::from_str::<Failed>(data).ok()?.error })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_event_ends_the_job() {
        let completed = r#"{"summary":{"total_files":3,"successful_files":2,"failed_files":1}}"#;
        let event = |name: &str, data: &str| end_of(&Sse::default().event(name).data(data));
        assert_eq!(
            event("task_completed", completed),
            Some(End::Completed { successful: 2, total: 3 })
        );
        let failed = Some(End::Failed { error: "cancelled".to_owned() });
        assert_eq!(event("task_failed", r#"{"error":"cancelled"}"#), failed);
        assert_eq!(event("task_cancelled", r#"{"status":"cancelled"}"#), None);
    }
}
