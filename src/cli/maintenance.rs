//! Commands that work on the stored data beside the service, or without it.

use std::{io::Write as _, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

use crate::{
    cleanup::{Lifetimes, Maintenance, State},
    config::Config,
    error::Error,
    locks::Locks,
    migrations::Schema,
    redis::{Redis, Retention},
    tasks::Tasks,
};

const POLL: Duration = Duration::from_millis(20);

/// Cleans up, and prints the report as JSON.
pub(crate) async fn cleanup(config: &Config, dry_run: bool) -> Result<()> {
    let tasks = Tasks::default();
    let redis = reach(config, &tasks).await?;
    let locks = Locks::new(redis.clone(), config.locks.clone(), tasks.clone());
    let maintenance = Maintenance::new(
        (redis, locks),
        &config.maintenance,
        Lifetimes {
            jobs: retention(config),
            cached_status: config.jobs.status_cache_ttl,
            metrics: config.metrics.ttl,
        },
        &tasks,
    );
    let stop = tasks.shutdown().child_token();
    let mut run = std::pin::pin!(maintenance.run(dry_run, &stop));
    let report = tokio::select! {
        report = &mut run => report?,
        _ = tokio::signal::ctrl_c() => {
            stop.cancel();
            run.await?
        }
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    leave(&tasks).await;
    if report.state != State::Finished {
        bail!("the cleanup did not finish: {}", report.error.unwrap_or_default());
    }
    Ok(())
}

/// Applies the changes of stored data that are pending, or only prints which are.
pub(crate) async fn migrate(config: &Config, only_status: bool) -> Result<()> {
    let tasks = Tasks::default();
    let redis = reach(config, &tasks).await?;
    let locks = Locks::new(redis.clone(), config.locks.clone(), tasks.clone());
    let schema = Schema::new(redis.clone(), locks, retention(config), config.maintenance.pace);
    while !only_status && !schema.apply_pending().await? {
        sleep(POLL).await;
    }
    let status = schema.status().await?;
    std::io::stdout().write_all(status.as_bytes())?;
    leave(&tasks).await;
    Ok(())
}

fn retention(config: &Config) -> Retention {
    Retention { ttl_secs: config.jobs.ttl.as_secs(), stream_length: config.progress.stream_length }
}

async fn reach(config: &Config, tasks: &Tasks) -> Result<Redis> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let redis = Redis::join(&config.redis, tasks).await?;
    let deadline = Instant::now() + PATIENCE;
    while !redis.is_up() {
        if Instant::now() > deadline {
            bail!(Error::RedisUnavailable(format!("no answer within {PATIENCE:?}")));
        }
        sleep(POLL).await;
    }
    Ok(redis)
}

async fn leave(tasks: &Tasks) {
    const PATIENCE: Duration = Duration::from_secs(5);
    tasks.drain(PATIENCE).await;
}
