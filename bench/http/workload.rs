//! The workloads and their requests.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    bench::CONNECTIONS,
    servers::{Limits, ServerKind},
};

pub(crate) const KEY: &str = "benchmark";
/// wrk.lua replaces this with a different number in each request.
pub(crate) const PLACEHOLDER: &str = "########";
/// Number of files of a job, and of a job whose files are reported in one request.
pub(crate) const FILES_PER_JOB: usize = 5;
pub(crate) const FILES_PER_BATCH: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Livez,
    GetJob,
    GetStatus,
    /// Reads the status with the `ETag` of the previous response.
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
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
    pub(crate) etag: Option<String>,
}

/// An existing job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// The `ETag` of its status.
    pub(crate) etag: Option<String>,
}

/// Jobs with few files and jobs with many files.
pub(crate) struct Jobs {
    pub(crate) small: Vec<Job>,
    pub(crate) large: Vec<Job>,
}

impl Workload {
    /// The workloads for a state of the limiter, in running order: reads before writes.
    pub(crate) fn for_limits(limits: Limits) -> &'static [Self] {
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
            Limits::Exceeded => &[Self::Refused],
        }
    }

    /// All workloads, in running order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Limits::ALL.into_iter().flat_map(|limits| Self::for_limits(limits).iter().copied())
    }

    /// The numbers of connections to measure with.
    pub(crate) fn connections(self, kind: ServerKind) -> &'static [usize] {
        // With this many keys, 256 concurrent requests take the seed's algorithm half a minute.
        let is_slow = kind == ServerKind::FastApi && self == Self::GetProgressAmongMany;
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

    /// The allowed statuses of responses.
    pub(crate) fn expected_statuses(self, kind: ServerKind) -> &'static [u16] {
        match self {
            Self::PostJob => &[201],
            Self::Refused => &[429],
            // The seed does not support ETags.
            Self::GetStatusAgain if kind != ServerKind::FastApi => &[304],
            Self::Mixed => &[200, 201, 304],
            _ => &[200],
        }
    }

    /// The number of stream entries that each request must create.
    pub(crate) fn entries_per_request(self) -> u64 {
        match self {
            Self::PostProgress => 1,
            Self::PostBatch => FILES_PER_BATCH as u64,
            _ => 0,
        }
    }

    /// Whether the gateway handles a request with one Redis call, so that a baseline of Redis alone can be measured.
    pub(crate) fn is_one_call(self) -> bool {
        !matches!(self, Self::Livez | Self::Mixed | Self::GetJobLimited | Self::Refused)
    }

    /// Whether `--flames` draws this workload: one workload of each kind.
    pub(crate) fn has_flame_graph(self) -> bool {
        use Workload::{GetJob, GetJobLimited, GetStatusAgain, PostJob, PostProgress, Refused};
        matches!(self, GetJob | GetStatusAgain | PostProgress | PostJob | GetJobLimited | Refused)
    }

    /// The requests, which wrk repeats in this order.
    pub(crate) fn requests(self, jobs: &Jobs) -> Vec<Request> {
        let each = |request: fn(&Job) -> Request| jobs.small.iter().map(request).collect();
        match self {
            Self::Livez => vec![get("/livez".to_owned())],
            Self::GetJob | Self::GetJobLimited | Self::Refused => each(get_job),
            Self::GetStatus => each(get_status),
            Self::GetStatusAgain => each(get_status_again),
            // One job only: for the seed's algorithm other jobs are foreign keys.
            Self::GetProgress | Self::GetProgressAmongMany => {
                jobs.small.first().map(get_progress).into_iter().collect()
            }
            Self::PostJob => vec![post_job(FILES_PER_JOB)],
            Self::PostProgress => reports(&jobs.small),
            Self::PostBatch => jobs.large.iter().map(report_batch).collect(),
            Self::Mixed => mixed(jobs),
        }
    }
}

/// Mostly polling clients, then reports of workers, and a few new jobs.
fn mixed(jobs: &Jobs) -> Vec<Request> {
    const ROUNDS: usize = 10;
    let (reports, mut requests) = (reports(&jobs.small), Vec::new());
    for round in 0..ROUNDS {
        for step in 0..100 {
            // Adjacent requests are of different kinds, and each kind covers all jobs.
            let (kind, index) = (step * 37 % 100, round * 100 + step);
            let job = &jobs.small[index * 7 % jobs.small.len()];
            requests.push(match kind {
                0..20 => get_status(job),
                20..35 => get_status_again(job),
                35..55 => get_job(job),
                55..65 => get_progress(job),
                65..90 => reports[index * 11 % reports.len()].clone(),
                90..94 => report_batch(&jobs.large[index % jobs.large.len()]),
                94..99 => post_job(FILES_PER_JOB),
                _ => get("/livez".to_owned()),
            });
        }
    }
    requests
}

pub(crate) fn get(path: String) -> Request {
    Request { method: "GET", path, body: None, etag: None }
}

fn post(path: String, body: &Value) -> Request {
    Request { method: "POST", path, body: Some(body.to_string()), etag: None }
}

fn get_job(job: &Job) -> Request {
    get(format!("/api/v1/jobs/{}", job.id))
}

pub(crate) fn get_status(job: &Job) -> Request {
    get(format!("/api/v1/jobs/{}/status", job.id))
}

fn get_status_again(job: &Job) -> Request {
    Request { etag: job.etag.clone(), ..get_status(job) }
}

pub(crate) fn get_progress(job: &Job) -> Request {
    get(format!("/api/v1/jobs/{}/progress", job.id))
}

pub(crate) fn post_job(file_count: usize) -> Request {
    let file = json!({ "filename": "chair.png", "size": 48_213, "content_type": "image/png" });
    post("/api/v1/jobs".to_owned(), &json!({ "files": vec![file; file_count] }))
}

/// One report per file of each job.
fn reports(jobs: &[Job]) -> Vec<Request> {
    let mut requests = Vec::new();
    for file in 0..FILES_PER_JOB {
        for job in jobs {
            let path = format!("/api/v1/jobs/{}/files/file_{file:03}/progress", job.id);
            requests.push(post(path, &json!({ "progress": 40, "message": message() })));
        }
    }
    requests
}

fn report_batch(job: &Job) -> Request {
    let report = |file| json!({ "file_id": format!("file_{file:03}"), "progress": 40, "message": message() });
    let files: Vec<Value> = (0..FILES_PER_BATCH).map(report).collect();
    post(format!("/api/v1/jobs/{}/progress", job.id), &json!({ "files": files }))
}

fn message() -> String {
    format!("step {PLACEHOLDER}")
}

/// Formats the requests as a Lua table for wrk.lua.
pub(crate) fn lua_table(requests: &[Request]) -> String {
    let mut text = "return {\n".to_owned();
    for Request { method, path, body, etag } in requests {
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
