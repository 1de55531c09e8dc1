//! `demo`: creates a job, simulates its worker and prints the event stream that a browser receives.

mod banner;
mod pictures;
mod service;
mod terminal;
mod watcher;
mod worker;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use serde_json::json;

pub(crate) use self::banner::banner;
use self::{service::Service, terminal::Terminal, watcher::End};

/// Arguments of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// URL of the service. Default: the service with these settings on this machine.
    #[arg(long)]
    url: Option<String>,
    /// API key that creates the job and reports its progress.
    #[arg(long, default_value = "dev-key")]
    key: String,
    /// Folder of pictures. Only their names, sizes and types are sent.
    #[arg(long, value_name = "DIR", default_value = "docs/demo-pictures")]
    folder: PathBuf,
    /// Approximate time per file.
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_seconds)]
    seconds_per_file: Duration,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_hours(1);
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= MAX => Ok(duration),
        _ => Err(format!("must be greater than 0 and at most {}", MAX.as_secs())),
    }
}

/// Runs one job on the service at `args.url`, or at `url` by default.
///
/// # Errors
///
/// If no service answers, or the job does not complete.
pub(crate) async fn run(args: Args, url: &str) -> Result<()> {
    let pictures = pictures::in_folder(&args.folder)?;
    let service = Service::new(args.url.as_deref().unwrap_or(url), args.key)?;
    let job = service.create(&json!({ "files": pictures })).await?;
    let mut terminal = Terminal::new(&job);
    terminal.print(&format!("Created job {} with {} files.", job.id, job.files.len()))?;
    terminal.print(&format!("Watch it in a browser: {}", service.page_of(&job)))?;

    // A failing worker ends the demo at once, because the stream of a job without a worker never ends.
    let watching = watcher::follow(&service, &job, &mut terminal);
    let working = worker::run(&service, &job, args.seconds_per_file);
    let (end, ()) = tokio::try_join!(watching, working)?;
    match end {
        End::Completed { successful, total } if successful == total => {
            terminal.print(&format!("Completed: {total} of {total} files have a model."))?;
        }
        End::Completed { successful, total } => {
            bail!("only {successful} of {total} files have a model")
        }
        End::Failed { error } => bail!("the job did not complete: {error}"),
    }
    Ok(())
}
