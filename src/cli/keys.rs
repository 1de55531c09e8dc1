//! `image2model-gateway keys …`: the same as `/api/v1/admin/keys`, for whoever has the service's settings. The first
//! admin's key is made here.

use std::{io::Write as _, num::NonZeroU32, str::FromStr as _, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use secrecy::ExposeSecret as _;

use crate::{
    api::keys::rfc3339,
    auth::{
        Limits, Role,
        key_admin::{self, Order},
        store,
    },
    config::Config,
    ids::KeyId,
    redis::Redis,
    tasks::Tasks,
};

const EXAMPLES: &str = "\
Examples:
  image2model-gateway keys create root --role admin              the first one; the rest can be made over HTTP
  image2model-gateway keys create upload-api --role client --limit key=60000
  image2model-gateway keys list
  image2model-gateway keys revoke i2m_Ab12Cd34

They are kept in the Redis of the settings, as hashes. The service need not run, unless that Redis is its own.";

const CREATE: &str = "\
Examples:
  image2model-gateway keys create root --role admin
  image2model-gateway keys create upload-api --role client --limit key=60000 --limit create_job=6000
  KEY=$(image2model-gateway keys create gpu-7 --role worker)      to hand it on";

const LIST: &str = "\
Examples:
  image2model-gateway keys list
  image2model-gateway keys list | grep never                     which has nobody used?";

const LIMIT: &str = "\
Examples:
  image2model-gateway keys limit i2m_Ab12Cd34 key=60000
  image2model-gateway keys limit i2m_Ab12Cd34                    those of the policies again";

const REVOKE: &str = "\
Examples:
  image2model-gateway keys revoke i2m_Ab12Cd34";

/// Make, list, limit and revoke the keys that are kept in Redis.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it, this once.
    #[command(after_help = CREATE)]
    Create {
        /// Who gets it; a name may have two live keys.
        name: String,
        /// What it may do; may be given several times.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<Role>,
        /// Another limit than that of a policy; may be given several times.
        #[arg(long = "limit", value_name = "POLICY=LIMIT")]
        limits: Vec<String>,
    },
    /// List all keys: id, name, roles, limits, when made, when last used.
    #[command(after_help = LIST)]
    List,
    /// Give a key these limits instead of those that it has.
    #[command(after_help = LIMIT)]
    Limit {
        /// The first characters of the key, as `list` shows them.
        id: String,
        /// None: those of the policies.
        #[arg(value_name = "POLICY=LIMIT")]
        limits: Vec<String>,
    },
    /// Shut a key out, in every process within a second.
    #[command(after_help = REVOKE)]
    Revoke {
        /// The first characters of the key, as `list` shows them.
        id: String,
    },
}

/// Runs the command on the Redis of the settings.
///
/// # Errors
///
/// If Redis does not answer, or the command cannot be done.
pub(crate) async fn run(arguments: Arguments, config: &Config) -> Result<()> {
    let tasks = Tasks::default();
    let redis = Redis::join(&config.redis, &tasks).await?;
    redis.until_up(Duration::from_secs(5)).await.context("cannot reach Redis")?;
    let done = execute(arguments.command, config, &redis).await;
    tasks.drain(Duration::from_secs(2)).await;
    std::io::stdout().write_all(done?.as_bytes())?;
    Ok(())
}

/// Does it, and says what to print.
async fn execute(command: Command, config: &Config, redis: &Redis) -> Result<String> {
    match command {
        Command::Create { name, roles, limits } => {
            let limits = parse_limits(&limits, config)?;
            let new = key_admin::create(redis, &config.auth, Order { name, roles, limits }).await?;
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
            key.record.roles.iter().map(|it| format!("{it:?}").to_lowercase()).collect();
        let limits: Vec<String> =
            key.record.limits.iter().map(|(policy, limit)| format!("{policy}={limit}")).collect();
        let or_dash = |it: String| if it.is_empty() { "-".to_owned() } else { it };
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
            bail!("a limit looks like key=6000, the name of a policy and a number; got {text:?}");
        };
        limits.insert(policy, limit);
    }
    config.rate_limit.check_limits(&limits, config.jobs.max_files)?;
    Ok(limits)
}
