//! The command line.

mod exit;
mod health;
mod routes;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use tokio::signal::unix::{SignalKind, signal};

use self::exit::Failure;
use crate::{App, Config, auth::command as keys, config, demo, offline, telemetry, traces::Traces};

const EXAMPLES: &str = "\
Try it:
  image2model-gateway                    run the service, with a Redis of its own
  image2model-gateway demo               and, elsewhere, play a job against it
  image2model-gateway routes             what it answers to

Run it:
  image2model-gateway --config prod.toml check-config    are the settings right, and which are in force?
  image2model-gateway --config prod.toml serve
  image2model-gateway health --wait 30 || exit           in a script that has just started it

Exit codes:
  0  done          1  failed                2  wrong arguments
  3  bad settings  4  no service answers    5  the service is not ready";

/// Jobs, live progress and a Celery queue in front of Redis, over HTTP.
///
/// Settings come from built-in defaults, then --config FILE, then the environment: `I2M__REDIS__URL` sets
/// redis.url. See config/default.toml for all of them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Cli {
    /// A TOML file with settings.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The same as the command check-config.
    #[arg(long, hide = true)]
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
    Health(health::Args),
    /// Clean up Redis and print a report: keys without a TTL get one, what is old or belongs to nothing goes.
    Cleanup {
        /// Count what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Apply the changes of stored data that this version needs; the service does so by itself when it starts.
    Migrate {
        /// Print which are applied and which are pending, and change nothing.
        #[arg(long)]
        status: bool,
    },
    Keys(keys::Arguments),
    /// Check the settings and print those in force, secrets masked.
    CheckConfig,
    /// Print every setting with its default and what it does, as Markdown.
    ConfigReference,
    /// List what the service answers to: method, path, the roles that may call, and what it does.
    Routes {
        /// Print the OpenAPI document in place of the list.
        #[arg(long)]
        openapi: bool,
    },
    /// Print a script that completes these arguments in a shell.
    ///
    /// For bash, put it where the shell looks:
    /// image2model-gateway completions bash > ~/.local/share/bash-completion/completions/image2model-gateway
    Completions {
        /// The shell.
        shell: Shell,
    },
}

impl Cli {
    /// Runs the command and says how it went.
    pub fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let (code, is_worth_a_word) = exit::code_of(&error);
                if is_worth_a_word {
                    _ = writeln!(std::io::stderr(), "image2model-gateway: {error:#}");
                }
                code
            }
        }
    }

    fn try_run(self) -> Result<()> {
        match self.command {
            Some(Command::Completions { shell }) => return routes::print_completions(shell),
            Some(Command::ConfigReference) => {
                return Ok(std::io::stdout().write_all(config::reference()?.as_bytes())?);
            }
            _ => (),
        }
        let config =
            Config::load(self.config.as_deref(), std::env::vars()).map_err(Failure::BadConfig)?;
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
            Command::Serve => runtime.block_on(serve(config, self.config)),
            Command::Keys(arguments) => runtime.block_on(keys::run(arguments, &config)),
            Command::Demo(args) => runtime.block_on(demo::run(args, &local_url(&config))),
            Command::Health(args) => runtime.block_on(health::run(args, local_url(&config))),
            Command::Routes { openapi } => routes::print(&config, openapi),
            Command::Cleanup { dry_run } => runtime.block_on(offline::cleanup(&config, dry_run)),
            Command::Migrate { status } => runtime.block_on(offline::migrate(&config, status)),
            Command::CheckConfig | Command::ConfigReference | Command::Completions { .. } => Ok(()),
        }
    }
}

async fn serve(config: Config, file: Option<PathBuf>) -> Result<()> {
    let traces = config.traces.is_enabled().then(|| Traces::start(&config.traces)).transpose()?;
    telemetry::init(&config.log, traces.as_ref())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let is_development = config.environment == crate::Deployment::Development;
    let stop = stop_signal()?;
    let app = App::bind(config).await?;
    let address = app.local_addr()?;
    tracing::info!(%address, "listening");
    if is_development {
        std::io::stdout().write_all(demo::welcome(address).as_bytes())?;
    }
    let reloader = app.reloader();
    let reload = async {
        while hangup.recv().await.is_some() {
            // A bad file must not stop what runs.
            match Config::load(file.as_deref(), std::env::vars())
                .and_then(|it| reloader.reload(&it))
            {
                Ok(()) => tracing::info!("keys, ticket secrets and certificates loaded again"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "not loaded again; what was goes on");
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = app.run(stop) => ended,
        () = reload => Ok(()),
    };
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

/// The service of these settings, as seen from this machine.
fn local_url(config: &Config) -> String {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}
