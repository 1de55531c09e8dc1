//! Measures requests with an increasing number of open streams, and the idle CPU and memory of the streams.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    bench::{Bench, CONNECTIONS},
    fill::fill,
    fixture::Fixture,
    jobs::sample_jobs,
    measure_idle,
    open_streams::OpenStreams,
    report::{Report, StreamsRow},
    servers::{Limits, Server},
    workload::{Jobs, Workload},
};

/// Number of jobs in Redis, and number of jobs that requests address, watched or not.
const JOB_COUNT: usize = 10_000;
const SAMPLE_SIZE: usize = 200;

pub(crate) async fn measure(bench: &Bench, is_quick: bool, report: &mut Report) -> Result<()> {
    // Number of streams, and number of jobs that they watch.
    let shapes: &[(usize, usize)] = if is_quick {
        &[(1, 1), (100, 100), (1000, 1000), (100, 1), (1000, 1)]
    } else {
        &[(1, 1), (100, 100), (1000, 1000), (10_000, 10_000), (1000, 1), (10_000, 1)]
    };
    for (stream_count, job_count) in shapes {
        let row = measure_one(bench, *stream_count, *job_count).await?;
        eprintln!(
            "== {stream_count} streams of {job_count} jobs: idle {:.1} %, {:.2} KiB per stream, GET job {:.1} µs; background {:.0} % of a core",
            row.idle.server_share * 100.0,
            row.kib_per_stream(),
            row.get_job.cpu_us,
            row.get_job.background_share * 100.0
        );
        report.streams.push(row);
    }
    Ok(())
}

async fn measure_one(
    bench: &Bench,
    stream_count: usize,
    watched_count: usize,
) -> Result<StreamsRow> {
    let mut fixture = Fixture::new(bench, Limits::Off).await?;
    fill(&fixture, JOB_COUNT).await?;
    // A fresh process: memory that the old one has freed would be reused for streams.
    fixture.server = Server::start_on(bench.kind, Limits::Off, &bench.redis, &bench.dir).await?;
    let watched = sample_jobs(bench, watched_count)?.small;
    let requests = Workload::GetJob
        .requests(&Jobs { small: sample_jobs(bench, SAMPLE_SIZE)?.small, large: Vec::new() });
    let rss_kib = || fixture.server.process.rss_kib();
    let before = rss_kib();
    let streams = OpenStreams::open(fixture.server.addr, &watched, stream_count).await?;
    fixture.server.wait_until_idle()?;
    let growth_kib = rss_kib() - before;
    let (idle, get_job) = (
        measure_idle(&fixture)?,
        bench.measure(&fixture.server, Workload::GetJob, &requests, CONNECTIONS)?,
    );
    // The tasks of this thread read what the streams received during the measurement.
    sleep(Duration::from_millis(100)).await;
    streams.ensure_all_open()?;
    Ok(StreamsRow { stream_count, job_count: watched_count, growth_kib, idle, get_job })
}
