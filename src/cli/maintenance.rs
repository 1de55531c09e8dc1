//! Commands that change stored data, whether the service runs or not.

use std::{io::Write as _, time::Duration};

use anyhow::{Result, bail};
use tokio::time::sleep;

use crate::{
    cleanup::{Cleanup, Lifetimes, State},
    config::Config,
    locks::Locks,
    migrations::Migrator,
    store::{JobRetention, Redis},
    tasks::TaskSupervisor,
};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs one cleanup pass and prints its report as JSON.
pub(crate) async fn cleanup(config: &Config, dry_run: bool) -> Result<()> {
    let tasks = TaskSupervisor::default();
    let redis = connect_and_wait(config, &tasks).await?;
    let locks = Locks::new(redis.clone(), config.locks.clone(), tasks.clone());
    let maintenance = Cleanup::new(
        (redis, locks),
        &config.cleanup,
        Lifetimes {
            jobs: retention(config),
            cached_status: config.jobs.status_cache_ttl,
            metrics: config.shared_metrics.ttl,
        },
        &tasks,
    );
    let stop = tasks.shutdown_token().child_token();
    let mut run = std::pin::pin!(maintenance.run(dry_run, &stop));
    let report = tokio::select! {
        report = &mut run => report?,
        _ = tokio::signal::ctrl_c() => {
            stop.cancel();
            run.await?
        }
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    shutdown(&tasks).await;
    if report.state != State::Finished {
        bail!("the cleanup did not finish: {}", report.error.unwrap_or_default());
    }
    Ok(())
}

/// Applies pending data migrations, or only prints their status.
pub(crate) async fn migrate(config: &Config, only_status: bool) -> Result<()> {
    let tasks = TaskSupervisor::default();
    let redis = connect_and_wait(config, &tasks).await?;
    let locks = Locks::new(redis.clone(), config.locks.clone(), tasks.clone());
    let schema = Migrator::new(redis.clone(), locks, retention(config), config.cleanup.duty_cycle);
    while !only_status && !schema.apply_pending().await? {
        sleep(POLL_INTERVAL).await;
    }
    let status = schema.status().await?;
    std::io::stdout().write_all(status.as_bytes())?;
    shutdown(&tasks).await;
    Ok(())
}

fn retention(config: &Config) -> JobRetention {
    JobRetention {
        ttl_secs: config.jobs.ttl.as_secs(),
        stream_length: config.progress.stream_length,
    }
}

async fn connect_and_wait(config: &Config, tasks: &TaskSupervisor) -> Result<Redis> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let redis = Redis::attach(&config.redis, tasks).await?;
    redis.wait_until_ready(TIMEOUT).await?;
    Ok(redis)
}

async fn shutdown(tasks: &TaskSupervisor) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    tasks.shutdown(TIMEOUT).await;
}
