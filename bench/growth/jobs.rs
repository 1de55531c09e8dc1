//! Requests among ever more jobs.

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, CONNECTIONS},
    fill, idle,
    report::{JobsRow, Report},
    servers::{Limits, owner},
    stage::Stage,
    workload::{Ask, Job, Jobs, KEY, Workload, get, get_progress},
};

/// Jobs that are asked for, spread over all that there are.
const N_ASKED: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    GetJob,
    /// What grows here is not for reasons of the processor's caches.
    GetSameJob,
    GetProgress,
    List,
    PostProgress,
    PostJob,
}

impl Question {
    /// What only reads comes first, and last what adds jobs.
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
            Self::GetSameJob => "GET job, always the same",
            Self::GetProgress => "GET progress",
            Self::List => "GET jobs, the first 20",
            Self::PostProgress => "POST progress",
            Self::PostJob => "POST job, 5 files",
        }
    }

    /// What its answers have to be like.
    pub(crate) fn workload(self) -> Workload {
        match self {
            // A page is answered as a job is.
            Self::GetJob | Self::GetSameJob | Self::List => Workload::GetJob,
            Self::GetProgress => Workload::GetProgress,
            Self::PostProgress => Workload::PostProgress,
            Self::PostJob => Workload::PostJob,
        }
    }

    pub(crate) fn asks(self, jobs: &Jobs) -> Vec<Ask> {
        match self {
            Self::List => vec![get("/api/v1/jobs?limit=20".to_owned())],
            Self::GetSameJob => Workload::GetJob.asks(jobs).into_iter().take(1).collect(),
            Self::GetProgress => jobs.few.iter().map(get_progress).collect(),
            _ => self.workload().asks(jobs),
        }
    }
}

pub(crate) async fn measure(bench: &Bench, is_quick: bool, report: &mut Report) -> Result<()> {
    let steps: &[usize] =
        if is_quick { &[1, 1000, 20_000] } else { &[1, 1000, 100_000, 1_000_000] };
    for step in steps {
        // The steps before have left jobs of their own: begin anew while that is cheap.
        let stage = Stage::new(bench, Limits::Off).await?;
        fill::fill(&stage, *step).await?;
        let jobs = sample(bench, N_ASKED)?;
        eprintln!("== {} jobs", n_jobs(bench)?);
        for question in Question::ALL {
            let (asks, n_jobs) = (question.asks(&jobs), n_jobs(bench)?);
            stage.check(question.workload(), &asks).await?;
            let measured = bench.measure(&stage.server, question.workload(), &asks, CONNECTIONS)?;
            eprintln!(
                "   {}: {:.0}/s, {:.1} µs, Redis {:.1} µs; others {:.0} % of a core",
                question.name(),
                measured.per_second,
                measured.cpu_us,
                measured.redis_cpu_us,
                measured.others_share * 100.0
            );
            report.jobs.push(JobsRow { step: *step, n_jobs, question, measured });
        }
        report.idle.push((n_jobs(bench)?, idle(&stage)?));
        report.redis_mib = used_mib(bench)?;
    }
    Ok(())
}

/// Up to `n` of the jobs that there are, spread over all of them.
pub(crate) fn sample(bench: &Bench, n: usize) -> Result<Jobs> {
    let script = "redis.call('SELECT', 1)
        return table.concat(redis.call('SRANDMEMBER', KEYS[1], ARGV[1]), ' ')";
    let ids = bench.redis.run(&["EVAL", script, "1", &owned(), &n.to_string()])?;
    let job = |id: &str| Job { id: id.to_owned(), etag: None };
    let few: Vec<Job> = ids.split_whitespace().map(job).collect();
    ensure!(!few.is_empty(), "there are no jobs");
    Ok(Jobs { few, many: Vec::new() })
}

pub(crate) fn n_jobs(bench: &Bench) -> Result<usize> {
    let script = "redis.call('SELECT', 1) return redis.call('SCARD', KEYS[1])";
    let said = bench.redis.run(&["EVAL", script, "1", &owned()])?;
    said.trim().trim_start_matches(':').parse().with_context(|| format!("Redis says {said}"))
}

/// The set of all jobs of the one who asks.
pub(crate) fn owned() -> String {
    format!("user_jobs:{}", owner(KEY))
}

fn used_mib(bench: &Bench) -> Result<f64> {
    let info = bench.redis.run(&["INFO", "memory"])?;
    let used = info.lines().find_map(|it| it.strip_prefix("used_memory:")).unwrap_or_default();
    Ok(used.trim().parse::<f64>().with_context(|| format!("INFO says {used}"))? / 1_048_576.0)
}
