//! `demo`: creates a job, plays its worker, and prints the stream as a browser would get it.

mod banner;
mod pictures;
mod service;
mod terminal;
mod watcher;
mod worker;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use serde_json::json;

pub(crate) use self::banner::welcome;
use self::{service::Service, terminal::Screen, watcher::End};

/// What to play.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The running service; by default the one of the settings on this machine.
    #[arg(long)]
    url: Option<String>,
    /// The API key to create the job and to report its progress with.
    #[arg(long, default_value = "dev-key")]
    key: String,
    /// Where the pictures are. Only their names, sizes and types are sent.
    #[arg(long, value_name = "DIR", default_value = "docs/demo-pictures")]
    folder: PathBuf,
    /// About how long a file takes.
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_seconds)]
    seconds_per_file: Duration,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_hours(1);
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= MAX => Ok(duration),
        _ => Err(format!("it has to be more than 0 and at most {}", MAX.as_secs())),
    }
}

/// Plays one job against `args.url`, or else against the service at `url`.
///
/// # Errors
///
/// If no service answers, or the job does not complete.
pub(crate) async fn run(args: Args, url: &str) -> Result<()> {
    let pictures = pictures::in_folder(&args.folder)?;
    let service = Service::new(args.url.as_deref().unwrap_or(url), args.key)?;
    let job = service.create(&json!({ "files": pictures })).await?;
    let mut screen = Screen::new(&job);
    screen.say(&format!("Created job {} with {} files.", job.id, job.files.len()))?;
    screen.say(&format!("Watch it in a browser: {}", service.page_of(&job)))?;

    // A worker that fails ends the demo at once: the stream of a job without a worker has no end.
    let watching = watcher::follow(&service, &job, &mut screen);
    let working = worker::play(&service, &job, args.seconds_per_file);
    let (end, ()) = tokio::try_join!(watching, working)?;
    match end {
        End::Completed { successful, total } if successful == total => {
            screen.say(&format!("Completed: {total} of {total} files have a model."))?;
        }
        End::Completed { successful, total } => {
            bail!("only {successful} of {total} files have a model")
        }
        End::Failed { error } => bail!("the job did not complete: {error}"),
    }
    Ok(())
}
