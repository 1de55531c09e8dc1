//! What is asked of the servers.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    bench::CONNECTIONS,
    servers::{Kind, Limits},
};

pub(crate) const KEY: &str = "benchmark";
/// Replaced by another number in each request, see wrk.lua.
pub(crate) const MARK: &str = "########";
/// Files of a job, and of one that is reported as a whole.
pub(crate) const N_FILES: usize = 5;
pub(crate) const N_BATCH: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Livez,
    GetJob,
    GetStatus,
    /// With the `ETag` of the last answer.
    GetStatusAgain,
    GetProgress,
    GetProgressAmongMany,
    PostJob,
    PostProgress,
    PostBatch,
    Mixed,
    GetJobLimited,
    Refused,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
    pub(crate) etag: Option<String>,
}

/// A job that is there.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// Of its status.
    pub(crate) etag: Option<String>,
}

/// Jobs with few files, and with many.
pub(crate) struct Jobs {
    pub(crate) few: Vec<Job>,
    pub(crate) many: Vec<Job>,
}

impl Workload {
    /// In the order in which they run: what reads before what writes.
    pub(crate) fn of(limits: Limits) -> &'static [Self] {
        match limits {
            Limits::Off => &[
                Self::GetProgress,
                Self::GetProgressAmongMany,
                Self::Livez,
                Self::GetJob,
                Self::GetStatus,
                Self::GetStatusAgain,
                Self::PostProgress,
                Self::PostBatch,
                Self::Mixed,
                Self::PostJob,
            ],
            Limits::On => &[Self::GetJobLimited],
            Limits::Over => &[Self::Refused],
        }
    }

    /// In the same order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Limits::ALL.into_iter().flat_map(|it| Self::of(it).iter().copied())
    }

    /// Requests under way at once.
    pub(crate) fn connections(self, kind: Kind) -> &'static [usize] {
        // Among so many keys 256 requests of the seed's are answered only after half a minute.
        let is_slow = kind == Kind::FastApi && self == Self::GetProgressAmongMany;
        if is_slow { &[1, CONNECTIONS] } else { &[1, CONNECTIONS, 256] }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Livez => "GET /livez",
            Self::GetJob => "GET job",
            Self::GetStatus => "GET status",
            Self::GetStatusAgain => "GET status, If-None-Match",
            Self::GetProgress => "GET progress",
            Self::GetProgressAmongMany => "GET progress among 100 000 foreign keys",
            Self::PostJob => "POST job, 5 files",
            Self::PostProgress => "POST progress",
            Self::PostBatch => "POST progress of 25 files",
            Self::Mixed => "mixed",
            Self::GetJobLimited => "GET job, limiter on",
            Self::Refused => "refused by the limiter",
        }
    }

    /// Statuses that each answer has one of.
    pub(crate) fn statuses(self, kind: Kind) -> &'static [u16] {
        match self {
            Self::PostJob => &[201],
            Self::Refused => &[429],
            // The seed knows no ETag.
            Self::GetStatusAgain if kind != Kind::FastApi => &[304],
            Self::Mixed => &[200, 201, 304],
            _ => &[200],
        }
    }

    /// Entries of streams that each request has to make.
    pub(crate) fn n_entries(self) -> u64 {
        match self {
            Self::PostProgress => 1,
            Self::PostBatch => N_BATCH as u64,
            _ => 0,
        }
    }

    /// Whether the gateway's work is one call to Redis, which Redis can be asked to do by itself.
    pub(crate) fn is_one_call(self) -> bool {
        !matches!(self, Self::Livez | Self::Mixed | Self::GetJobLimited | Self::Refused)
    }

    /// Whether a flame graph of it is kept: of each kind one.
    pub(crate) fn is_drawn(self) -> bool {
        use Workload::{GetJob, GetJobLimited, GetStatusAgain, PostJob, PostProgress, Refused};
        matches!(self, GetJob | GetStatusAgain | PostProgress | PostJob | GetJobLimited | Refused)
    }

    /// The requests, to be sent one after the other and over again.
    pub(crate) fn asks(self, jobs: &Jobs) -> Vec<Ask> {
        let each = |ask: fn(&Job) -> Ask| jobs.few.iter().map(ask).collect();
        match self {
            Self::Livez => vec![get("/livez".to_owned())],
            Self::GetJob | Self::GetJobLimited | Self::Refused => each(get_job),
            Self::GetStatus => each(get_status),
            Self::GetStatusAgain => each(get_status_again),
            // Of one job: in the seed's way the jobs beside it would be foreign keys.
            Self::GetProgress | Self::GetProgressAmongMany => {
                jobs.few.first().map(get_progress).into_iter().collect()
            }
            Self::PostJob => vec![post_job(N_FILES)],
            Self::PostProgress => reports(&jobs.few),
            Self::PostBatch => jobs.many.iter().map(report_batch).collect(),
            Self::Mixed => mixed(jobs),
        }
    }
}

/// Pollers most of all, then workers that report, and a new job now and then.
fn mixed(jobs: &Jobs) -> Vec<Ask> {
    const ROUNDS: usize = 10;
    let (reports, mut asks) = (reports(&jobs.few), Vec::new());
    for round in 0..ROUNDS {
        for i in 0..100 {
            // Neighbours are of different kinds, and each kind goes over all jobs.
            let (dice, at) = (i * 37 % 100, round * 100 + i);
            let job = &jobs.few[at * 7 % jobs.few.len()];
            asks.push(match dice {
                0..20 => get_status(job),
                20..35 => get_status_again(job),
                35..55 => get_job(job),
                55..65 => get_progress(job),
                65..90 => reports[at * 11 % reports.len()].clone(),
                90..94 => report_batch(&jobs.many[at % jobs.many.len()]),
                94..99 => post_job(N_FILES),
                _ => get("/livez".to_owned()),
            });
        }
    }
    asks
}

pub(crate) fn get(path: String) -> Ask {
    Ask { method: "GET", path, body: None, etag: None }
}

fn post(path: String, body: &Value) -> Ask {
    Ask { method: "POST", path, body: Some(body.to_string()), etag: None }
}

fn get_job(job: &Job) -> Ask {
    get(format!("/api/v1/jobs/{}", job.id))
}

pub(crate) fn get_status(job: &Job) -> Ask {
    get(format!("/api/v1/jobs/{}/status", job.id))
}

fn get_status_again(job: &Job) -> Ask {
    Ask { etag: job.etag.clone(), ..get_status(job) }
}

pub(crate) fn get_progress(job: &Job) -> Ask {
    get(format!("/api/v1/jobs/{}/progress", job.id))
}

pub(crate) fn post_job(n_files: usize) -> Ask {
    let file = json!({ "filename": "chair.png", "size": 48_213, "content_type": "image/png" });
    post("/api/v1/jobs".to_owned(), &json!({ "files": vec![file; n_files] }))
}

/// Of each file of each job.
fn reports(jobs: &[Job]) -> Vec<Ask> {
    let mut asks = Vec::new();
    for i in 0..N_FILES {
        for job in jobs {
            let path = format!("/api/v1/jobs/{}/files/file_{i:03}/progress", job.id);
            asks.push(post(path, &json!({ "progress": 40, "message": message() })));
        }
    }
    asks
}

fn report_batch(job: &Job) -> Ask {
    let report =
        |i| json!({ "file_id": format!("file_{i:03}"), "progress": 40, "message": message() });
    let files: Vec<Value> = (0..N_BATCH).map(report).collect();
    post(format!("/api/v1/jobs/{}/progress", job.id), &json!({ "files": files }))
}

fn message() -> String {
    format!("step {MARK}")
}

/// As a table for wrk.lua.
pub(crate) fn lua_table(asks: &[Ask]) -> String {
    let mut text = "return {\n".to_owned();
    for Ask { method, path, body, etag } in asks {
        _ = write!(
            text,
            "{{method={method:?},path={path:?},headers={{['Authorization']='Bearer {KEY}'"
        );
        if let Some(etag) = etag {
            _ = write!(text, ",['If-None-Match']={etag:?}");
        }
        if let Some(body) = body {
            _ = writeln!(text, ",['Content-Type']='application/json'}},body={body:?}}},");
        } else {
            text += "}},\n";
        }
    }
    text + "}\n"
}
