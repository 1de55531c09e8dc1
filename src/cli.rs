//! The command line.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{App, Config, demo, telemetry, traces::Traces};

/// Jobs, live progress and a Celery queue in front of Redis, over HTTP.
///
/// Settings come from built-in defaults, then --config FILE, then the environment: `I2M__REDIS__URL` sets
/// redis.url. See config/default.toml for all of them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// A TOML file with settings.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print the effective settings, secrets masked, and exit.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default).
    Serve,
    /// Play a worker against a running service and print what a browser would see.
    Demo(demo::Args),
    /// Ask a running service whether it is ready; the exit code says so.
    Health {
        /// The service; by default the one of the settings on this machine.
        #[arg(long)]
        url: Option<String>,
    },
    /// Print the effective settings, secrets masked.
    CheckConfig,
}

impl Cli {
    /// Runs the command and says how it went.
    pub fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                _ = writeln!(std::io::stderr(), "image2model-gateway: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn try_run(self) -> Result<()> {
        let config = Config::load(self.config.as_deref(), std::env::vars())?;
        let command = if self.check_config {
            Command::CheckConfig
        } else {
            self.command.unwrap_or(Command::Serve)
        };
        if matches!(command, Command::CheckConfig) {
            return Ok(std::io::stdout().write_all(config.to_masked_toml()?.as_bytes())?);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match command {
            Command::Serve => runtime.block_on(serve(config)),
            Command::Demo(args) => runtime.block_on(demo::run(args, &local_url(&config))),
            Command::Health { url } => {
                runtime.block_on(health(&url.unwrap_or_else(|| local_url(&config))))
            }
            Command::CheckConfig => Ok(()),
        }
    }
}

async fn serve(config: Config) -> Result<()> {
    let traces = config.traces.is_enabled().then(|| Traces::start(&config.traces)).transpose()?;
    telemetry::init(&config.log, traces.as_ref())?;
    let is_development = config.environment == crate::Deployment::Development;
    let stop = stop_signal()?;
    let app = App::bind(config).await?;
    let address = app.local_addr()?;
    tracing::info!(%address, "listening");
    if is_development {
        std::io::stdout().write_all(demo::welcome(address).as_bytes())?;
    }
    let ended = app.run(stop).await;
    if let Some(traces) = traces {
        traces.finish();
    }
    ended
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

async fn health(url: &str) -> Result<()> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    let url = format!("{}/readyz?verbose", url.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    writeln!(std::io::stdout(), "{body}")?;
    if !status.is_success() {
        bail!("not ready: {status}");
    }
    Ok(())
}

/// The service of these settings, as seen from this machine.
fn local_url(config: &Config) -> String {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}
