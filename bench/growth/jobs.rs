//! Measures requests with an increasing number of jobs in Redis.

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, CONNECTIONS},
    fill,
    fixture::Fixture,
    measure_idle,
    report::{JobsRow, Report},
    servers::{Limits, owner_hash},
    workload::{Job, Jobs, KEY, Request, Workload, get, get_progress},
};

/// Number of jobs that requests address, a random sample of all jobs.
const SAMPLE_SIZE: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    GetJob,
    /// Always reads the same job, which stays in the CPU caches of Redis: the control for [`Operation::GetJob`].
    GetSameJob,
    GetProgress,
    List,
    PostProgress,
    PostJob,
}

impl Operation {
    /// Reads first; the operation that adds jobs last.
    pub(crate) const ALL: [Self; 6] = [
        Self::GetJob,
        Self::GetSameJob,
        Self::GetProgress,
        Self::List,
        Self::PostProgress,
        Self::PostJob,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GetJob => "GET job",
            Self::GetSameJob => "GET job, always the same job",
            Self::GetProgress => "GET progress",
            Self::List => "GET jobs, first 20",
            Self::PostProgress => "POST progress",
            Self::PostJob => "POST job, 5 files",
        }
    }

    /// The workload whose responses have the expected statuses.
    pub(crate) fn workload(self) -> Workload {
        match self {
            // A page of jobs has the same status as a job.
            Self::GetJob | Self::GetSameJob | Self::List => Workload::GetJob,
            Self::GetProgress => Workload::GetProgress,
            Self::PostProgress => Workload::PostProgress,
            Self::PostJob => Workload::PostJob,
        }
    }

    pub(crate) fn requests(self, jobs: &Jobs) -> Vec<Request> {
        match self {
            Self::List => vec![get("/api/v1/jobs?limit=20".to_owned())],
            Self::GetSameJob => Workload::GetJob.requests(jobs).into_iter().take(1).collect(),
            Self::GetProgress => jobs.small.iter().map(get_progress).collect(),
            _ => self.workload().requests(jobs),
        }
    }
}

pub(crate) async fn measure(bench: &Bench, is_quick: bool, report: &mut Report) -> Result<()> {
    let steps: &[usize] =
        if is_quick { &[1, 1000, 20_000] } else { &[1, 1000, 100_000, 1_000_000] };
    for step in steps {
        // The previous step has added jobs, so start with an empty Redis.
        let fixture = Fixture::new(bench, Limits::Off).await?;
        fill::fill(&fixture, *step).await?;
        let jobs = sample_jobs(bench, SAMPLE_SIZE)?;
        eprintln!("== {} jobs", job_count(bench)?);
        for operation in Operation::ALL {
            let (requests, job_count) = (operation.requests(&jobs), job_count(bench)?);
            fixture.verify(operation.workload(), &requests).await?;
            let measured =
                bench.measure(&fixture.server, operation.workload(), &requests, CONNECTIONS)?;
            eprintln!(
                "   {}: {:.0}/s, {:.1} µs, Redis {:.1} µs; background {:.0} % of a core",
                operation.name(),
                measured.per_second,
                measured.cpu_us,
                measured.redis_cpu_us,
                measured.background_share * 100.0
            );
            report.jobs.push(JobsRow { step: *step, job_count, operation, measured });
        }
        report.idle.push((job_count(bench)?, measure_idle(&fixture)?));
        report.redis_mib = used_memory_mib(bench)?;
    }
    Ok(())
}

/// A random sample of up to `size` of all jobs.
pub(crate) fn sample_jobs(bench: &Bench, size: usize) -> Result<Jobs> {
    let script = "redis.call('SELECT', 1)
        return table.concat(redis.call('SRANDMEMBER', KEYS[1], ARGV[1]), ' ')";
    let ids = bench.redis.run(&["EVAL", script, "1", &owner_set_key(), &size.to_string()])?;
    let job = |id: &str| Job { id: id.to_owned(), etag: None };
    let small: Vec<Job> = ids.split_whitespace().map(job).collect();
    ensure!(!small.is_empty(), "there are no jobs");
    Ok(Jobs { small, large: Vec::new() })
}

pub(crate) fn job_count(bench: &Bench) -> Result<usize> {
    let script = "redis.call('SELECT', 1) return redis.call('SCARD', KEYS[1])";
    let reply = bench.redis.run(&["EVAL", script, "1", &owner_set_key()])?;
    let digits = reply.trim().trim_start_matches(':');
    digits.parse().with_context(|| format!("unexpected reply of Redis: {reply}"))
}

/// The key of the set of all jobs of the benchmark's API key.
pub(crate) fn owner_set_key() -> String {
    format!("user_jobs:{}", owner_hash(KEY))
}

fn used_memory_mib(bench: &Bench) -> Result<f64> {
    let info = bench.redis.run(&["INFO", "memory"])?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap_or_default();
    Ok(used.trim().parse::<f64>().with_context(|| format!("used_memory is {used}"))? / 1_048_576.0)
}
