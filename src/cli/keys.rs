//! `image2model-gateway keys …`: like `/api/v1/admin/keys`, but authorized by access to the settings. Creates the first
//! admin key.

use std::{io::Write as _, num::NonZeroU32, str::FromStr as _, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use secrecy::ExposeSecret as _;

use crate::{
    api::keys::rfc3339,
    auth::{
        Limits, Role,
        key_admin::{self, NewApiKey},
        store,
    },
    config::Config,
    ids::KeyId,
    store::Redis,
    tasks::TaskSupervisor,
};

const EXAMPLES: &str = "\
Examples:
  image2model-gateway keys create root --role admin              the first key; others can be created over HTTP
  image2model-gateway keys create upload-api --role client --limit key=60000
  image2model-gateway keys list
  image2model-gateway keys revoke i2m_Ab12Cd34

Redis stores the keys as hashes. The service need not run, unless its Redis is the embedded one.";

const CREATE: &str = "\
Examples:
  image2model-gateway keys create root --role admin
  image2model-gateway keys create upload-api --role client --limit key=60000 --limit create_job=6000
  KEY=$(image2model-gateway keys create gpu-7 --role worker)      print it once, to pass it on";

const LIST: &str = "\
Examples:
  image2model-gateway keys list
  image2model-gateway keys list | grep never                     keys that were never used";

const LIMIT: &str = "\
Examples:
  image2model-gateway keys limit i2m_Ab12Cd34 key=60000
  image2model-gateway keys limit i2m_Ab12Cd34                    remove the overrides";

const REVOKE: &str = "\
Examples:
  image2model-gateway keys revoke i2m_Ab12Cd34";

/// Create, list, limit and revoke API keys in Redis.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a key and print it; it cannot be printed again.
    #[command(after_help = CREATE)]
    Create {
        /// Name of the owner; a name may have two active keys.
        name: String,
        /// Role of the key; repeatable.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<Role>,
        /// Limit that overrides a rate-limit policy; repeatable.
        #[arg(long = "limit", value_name = "POLICY=LIMIT")]
        limits: Vec<String>,
    },
    /// List all keys: id, name, roles, limits, creation and last use.
    #[command(after_help = LIST)]
    List,
    /// Replace the limits of a key.
    #[command(after_help = LIMIT)]
    Limit {
        /// Key id: the first characters of the key, as `list` prints them.
        id: String,
        /// Limits that override policies; none removes all overrides.
        #[arg(value_name = "POLICY=LIMIT")]
        limits: Vec<String>,
    },
    /// Revoke a key; every process rejects it within a second.
    #[command(after_help = REVOKE)]
    Revoke {
        /// Key id: the first characters of the key, as `list` prints them.
        id: String,
    },
}

/// Runs the command against the configured Redis.
///
/// # Errors
///
/// If Redis is unreachable, or the command fails.
pub(crate) async fn run(arguments: Arguments, config: &Config) -> Result<()> {
    let tasks = TaskSupervisor::default();
    let redis = Redis::attach(&config.redis, &tasks).await?;
    redis.wait_until_ready(Duration::from_secs(5)).await.context("cannot reach Redis")?;
    let output = execute(arguments.command, config, &redis).await;
    tasks.shutdown(Duration::from_secs(2)).await;
    std::io::stdout().write_all(output?.as_bytes())?;
    Ok(())
}

/// Executes the command and returns its output.
async fn execute(command: Command, config: &Config, redis: &Redis) -> Result<String> {
    match command {
        Command::Create { name, roles, limits } => {
            let limits = parse_limits(&limits, config)?;
            let new =
                key_admin::create(redis, &config.auth, NewApiKey { name, roles, limits }).await?;
            Ok(format!("{}\n", new.key.expose_secret()))
        }
        Command::List => list(redis).await,
        Command::Limit { id, limits } => {
            let limits = parse_limits(&limits, config)?;
            store::limit(redis, &KeyId::from_str(&id)?, &limits).await?;
            Ok(String::new())
        }
        Command::Revoke { id } => {
            store::revoke(redis, &KeyId::from_str(&id)?).await?;
            Ok(String::new())
        }
    }
}

async fn list(redis: &Redis) -> Result<String> {
    let mut lines = String::new();
    for key in store::list(redis).await? {
        let roles: Vec<String> =
            key.record.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        let limits: Vec<String> =
            key.record.limits.iter().map(|(policy, limit)| format!("{policy}={limit}")).collect();
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let columns = [
            key.id.to_string(),
            key.record.name,
            roles.join(","),
            or_dash(limits.join(",")),
            rfc3339(key.record.created_at).unwrap_or_default(),
            key.used_at.and_then(rfc3339).unwrap_or_else(|| "never".to_owned()),
        ];
        lines += &columns.join("\t");
        lines.push('\n');
    }
    Ok(lines)
}

fn parse_limits(texts: &[String], config: &Config) -> Result<Limits> {
    let mut limits = Limits::new();
    for text in texts {
        let parsed = text.split_once('=').and_then(|(policy, limit)| {
            Some((policy.to_owned(), limit.parse::<NonZeroU32>().ok()?))
        });
        let Some((policy, limit)) = parsed else {
            bail!("a limit has the form POLICY=NUMBER, such as key=6000; got {text:?}");
        };
        limits.insert(policy, limit);
    }
    config.rate_limit.validate_limits(&limits, config.jobs.max_files)?;
    Ok(limits)
}
