//! `health`: asks a running service whether it is ready.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::exit::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service; by default the one of the settings on this machine.
    #[arg(long)]
    url: Option<String>,
    /// Ask again for at most this long until it is ready, for scripts that have just started it.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

/// Prints what the service says of itself.
///
/// # Errors
///
/// If no service answers, or with [`Failure::NotReady`], once waiting is over.
pub(super) async fn run(args: Args, local: String) -> Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let url = args.url.unwrap_or(local);
    let url = format!("{}/readyz?verbose", url.trim_end_matches('/'));
    let end = Instant::now() + Duration::from_secs(args.wait);
    loop {
        match ask(&url).await {
            Ok(said) => return Ok(writeln!(std::io::stdout(), "{said}")?),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn ask(url: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let answer = client.get(url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let said = answer.text().await.unwrap_or_default();
    if status.is_success() {
        Ok(said)
    } else {
        Err(Failure::NotReady(format!("not ready: {status} {said}")).into())
    }
}
