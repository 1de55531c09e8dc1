//! The command line.

mod examples;
mod exit;
mod health;
mod keys;
mod maintenance;
mod routes;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use tokio::signal::unix::{SignalKind, signal};

use self::exit::CliError;
use crate::{
    app::App,
    config::{self, Config},
    demo,
    observability::{logging, traces::Traces},
    settings::Environment,
};

/// HTTP gateway in front of Redis: jobs, live progress and a Celery queue.
///
/// Settings come from built-in defaults, then --config FILE, then the environment: `I2M__REDIS__URL` sets
/// redis.url. `config-reference` prints all settings.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = examples::ALL)]
pub struct Cli {
    /// TOML file with settings.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Alias of the command check-config.
    #[arg(long, hide = true)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default).
    #[command(after_help = examples::SERVE)]
    Serve,
    /// Create a job on a running service, simulate its worker and print the event stream.
    #[command(after_help = examples::DEMO)]
    Demo(demo::Args),
    /// Check whether a running service is ready; the exit code is the result.
    #[command(after_help = examples::HEALTH)]
    Health(health::Args),
    /// Clean up Redis and print a report: set missing TTLs, remove stale jobs and orphaned keys.
    #[command(after_help = examples::CLEANUP)]
    Cleanup {
        /// Count the changes without making them.
        #[arg(long)]
        dry_run: bool,
    },
    /// Apply the data migrations that this version needs; the service also applies them when it starts.
    #[command(after_help = examples::MIGRATE)]
    Migrate {
        /// Print applied and pending migrations without applying any.
        #[arg(long)]
        status: bool,
    },
    Keys(keys::Arguments),
    /// Validate the settings and print the effective ones, with secrets masked.
    #[command(after_help = examples::CHECK_CONFIG)]
    CheckConfig,
    /// Print the reference of all settings.
    #[command(after_help = examples::CONFIG_REFERENCE)]
    ConfigReference {
        /// Format of the reference.
        #[arg(long, value_enum, default_value_t = ReferenceFormat::Markdown)]
        format: ReferenceFormat,
    },
    /// List all routes: method, path, required role and summary.
    #[command(after_help = examples::ROUTES)]
    Routes {
        /// Print the OpenAPI document instead.
        #[arg(long)]
        openapi: bool,
    },
    /// Print a shell completion script.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Formats of `config-reference`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ReferenceFormat {
    /// docs/CONFIGURATION.md.
    Markdown,
    /// config/default.toml.
    Defaults,
    /// config/tuning.toml.
    Tuning,
}

impl Cli {
    /// Runs the command and returns its exit code.
    pub fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let (code, should_print) = exit::code_of(&error);
                if should_print {
                    _ = writeln!(std::io::stderr(), "image2model-gateway: {error:#}");
                }
                code
            }
        }
    }

    fn try_run(self) -> Result<()> {
        match self.command {
            Some(Command::Completions { shell }) => return routes::print_completions(shell),
            Some(Command::ConfigReference { format }) => {
                let reference = match format {
                    ReferenceFormat::Markdown => config::reference()?,
                    ReferenceFormat::Defaults => config::defaults_file(false)?,
                    ReferenceFormat::Tuning => config::defaults_file(true)?,
                };
                return Ok(std::io::stdout().write_all(reference.as_bytes())?);
            }
            _ => (),
        }
        let config =
            Config::load(self.config.as_deref(), std::env::vars()).map_err(CliError::BadConfig)?;
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
            Command::Cleanup { dry_run } => {
                runtime.block_on(maintenance::cleanup(&config, dry_run))
            }
            Command::Migrate { status } => runtime.block_on(maintenance::migrate(&config, status)),
            Command::CheckConfig
            | Command::ConfigReference { .. }
            | Command::Completions { .. } => Ok(()),
        }
    }
}

async fn serve(config: Config, file: Option<PathBuf>) -> Result<()> {
    let traces = config.traces.is_enabled().then(|| Traces::start(&config.traces)).transpose()?;
    logging::init(&config.log, traces.as_ref())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let is_development = config.environment == Environment::Development;
    let stop = stop_signal()?;
    let app = App::bind(config).await?;
    let address = app.local_addr()?;
    tracing::info!(%address, "listening");
    if is_development {
        std::io::stdout().write_all(demo::banner(address).as_bytes())?;
    }
    let reloader = app.reload_handle();
    let reload = async {
        while hangup.recv().await.is_some() {
            // An invalid file must not stop a running service.
            match Config::load(file.as_deref(), std::env::vars())
                .and_then(|config| reloader.reload(&config))
            {
                Ok(()) => tracing::info!("reloaded keys, ticket secrets and certificates"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(
                        error,
                        "configuration reload failed; keeping the previous configuration"
                    );
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
        traces.shutdown();
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

/// The URL of the service with these settings, as seen from this machine.
fn local_url(config: &Config) -> String {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if config.server.has_tls() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The example lines of a command and its subcommands, by command name.
    fn examples(command: &clap::Command, found: &mut Vec<(String, Vec<String>)>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().filter_map(|line| {
            let line =
                line.strip_prefix("  ").filter(|line| line.contains("image2model-gateway"))?;
            // The explanation follows after three spaces; redirections belong to the shell.
            let command = line.split("   ").next()?.split(['|', '>', '&', ')']).next()?.trim();
            Some(command[command.find("image2model-gateway")?..].to_owned())
        });
        found.push((command.get_name().to_owned(), lines.collect()));
        for subcommand in command.get_subcommands() {
            examples(subcommand, found);
        }
    }

    #[test]
    fn every_command_has_valid_examples() {
        let mut all = Vec::new();
        examples(&Cli::command(), &mut all);
        assert!(all.len() >= 15, "{all:?}");
        for (name, lines) in all {
            assert!(!lines.is_empty(), "{name} has no examples");
            for line in lines {
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
            }
        }
    }
}
