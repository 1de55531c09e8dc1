//! Requests beside ever more open streams, and what these take by themselves.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    bench::{Bench, CONNECTIONS},
    fill::fill,
    held::Held,
    idle,
    jobs::sample,
    report::{Report, StreamsRow},
    servers::{Limits, Server},
    stage::Stage,
    workload::{Jobs, Workload},
};

/// That there are, and that are asked for, whether they are watched or not.
const N_JOBS: usize = 10_000;
const N_ASKED: usize = 200;

pub(crate) async fn measure(bench: &Bench, is_quick: bool, report: &mut Report) -> Result<()> {
    // Streams, and the jobs that they are about.
    let shapes: &[(usize, usize)] = if is_quick {
        &[(1, 1), (100, 100), (1000, 1000), (100, 1), (1000, 1)]
    } else {
        &[(1, 1), (100, 100), (1000, 1000), (10_000, 10_000), (1000, 1), (10_000, 1)]
    };
    for (n_streams, n_jobs) in shapes {
        let row = one(bench, *n_streams, *n_jobs).await?;
        eprintln!(
            "== {n_streams} streams of {n_jobs} jobs: idle {:.1} %, {:.2} KiB each, GET job {:.1} µs; others {:.0} % of a core",
            row.idle.server_share * 100.0,
            row.kib_each(),
            row.get_job.cpu_us,
            row.get_job.others_share * 100.0
        );
        report.streams.push(row);
    }
    Ok(())
}

async fn one(bench: &Bench, n_streams: usize, n_watched: usize) -> Result<StreamsRow> {
    let mut stage = Stage::new(bench, Limits::Off).await?;
    fill(&stage, N_JOBS).await?;
    // What filling left behind would be memory for streams.
    stage.server = Server::start_on(bench.kind, Limits::Off, &bench.redis, &bench.dir).await?;
    let watched = sample(bench, n_watched)?.few;
    let asks = Workload::GetJob.asks(&Jobs { few: sample(bench, N_ASKED)?.few, many: Vec::new() });
    let rss_kib = || stage.server.process.rss_kib();
    let before = rss_kib();
    let held = Held::open(stage.server.addr, &watched, n_streams).await?;
    stage.server.settle()?;
    let grown_kib = rss_kib() - before;
    // What streams are sent meanwhile has to be read by somebody.
    let (idle, get_job) =
        (idle(&stage)?, bench.measure(&stage.server, Workload::GetJob, &asks, CONNECTIONS)?);
    sleep(Duration::from_millis(100)).await;
    held.check()?;
    Ok(StreamsRow { n_streams, n_jobs: n_watched, grown_kib, idle, get_job })
}
