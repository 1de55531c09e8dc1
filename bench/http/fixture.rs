//! A running server with the jobs that its workloads need.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, Response, header};
use serde_json::Value;

use crate::{
    bench::Bench,
    redis::Redis,
    redis_monitor::{Command, Monitor, round_trips},
    servers::{Limits, Server},
    workload::{
        FILES_PER_BATCH, FILES_PER_JOB, Job, Jobs, KEY, Request, Workload, get_status, post_job,
    },
};

const JOB_COUNT: usize = 200;
const LARGE_JOB_COUNT: usize = 40;
/// Number of requests that are sent and inspected one by one.
const SAMPLE_COUNT: usize = 11;

/// Adds the progress keys of other jobs, named like those of the seed.
const ADD_FOREIGN_KEYS: &str = "redis.call('SELECT', 2)
    for i = 0, 99999 do
        local job = string.format('00000000-0000-4000-8000-%012d', math.floor(i / 5))
        redis.call('SET', 'progress:' .. job .. ':file_00' .. i % 5, '40', 'EX', 86400)
    end
    return 1";
const REMOVE_ALL_PROGRESS: &str = "redis.call('SELECT', 2) redis.call('FLUSHDB') return 1";

pub(crate) struct Fixture<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) server: Server,
    jobs: Jobs,
    http: reqwest::Client,
}

/// Observations of single requests.
pub(crate) struct Sample {
    /// Round trips to Redis per request: the mean for the mixed workload, otherwise the median.
    pub(crate) round_trips: f64,
    /// The Redis call of the last request and its job id, if the request sent exactly one call.
    pub(crate) call: Option<(Command, String)>,
}

impl<'a> Fixture<'a> {
    pub(crate) async fn new(bench: &'a Bench, limits: Limits) -> Result<Self> {
        let server = Server::start(bench.kind, limits, &bench.redis, &bench.dir).await?;
        let jobs = Jobs { small: Vec::new(), large: Vec::new() };
        // No idle connections: a server may close one at the moment when it is reused.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        Ok(Self { bench, server, jobs, http })
    }

    /// Prepares the data of `workload` and returns its requests.
    pub(crate) async fn prepare(&mut self, workload: Workload) -> Result<Vec<Request>> {
        match workload {
            Workload::GetProgress | Workload::Refused => {
                self.jobs.small = self.create(FILES_PER_JOB, 1).await?;
            }
            Workload::GetProgressAmongMany => run_script(&self.bench.redis, ADD_FOREIGN_KEYS)?,
            Workload::Livez | Workload::GetJobLimited => {
                run_script(&self.bench.redis, REMOVE_ALL_PROGRESS)?;
                self.jobs.small = self.create(FILES_PER_JOB, JOB_COUNT).await?;
                self.jobs.large = self.create(FILES_PER_BATCH, LARGE_JOB_COUNT).await?;
            }
            Workload::GetStatusAgain => self.read_etags().await?,
            _ => (),
        }
        Ok(workload.requests(&self.jobs))
    }

    pub(crate) async fn create(&self, file_count: usize, count: usize) -> Result<Vec<Job>> {
        let (request, mut jobs) = (post_job(file_count), Vec::new());
        for _ in 0..count {
            let response = self.send(&request).await?.error_for_status()?.text().await?;
            jobs.push(Job { id: job_id(&response)?, etag: None });
        }
        Ok(jobs)
    }

    async fn read_etags(&mut self) -> Result<()> {
        let mut jobs = std::mem::take(&mut self.jobs.small);
        for job in &mut jobs {
            let response = self.send(&get_status(job)).await?.error_for_status()?;
            let etag = response.headers().get(header::ETAG);
            job.etag = etag.and_then(|value| value.to_str().ok()).map(str::to_owned);
        }
        self.jobs.small = jobs;
        Ok(())
    }

    async fn send(&self, request: &Request) -> Result<Response> {
        const TIMEOUT: Duration = Duration::from_secs(20);
        let method: Method = request.method.parse()?;
        let url = format!("http://{}{}", self.server.addr, request.path);
        let mut builder = self.http.request(method, url).bearer_auth(KEY).timeout(TIMEOUT);
        if let Some(etag) = &request.etag {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(body) = &request.body {
            builder = builder.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        Ok(builder.send().await?)
    }

    /// Sends some of the requests one by one. Fails if a response has an unexpected status.
    pub(crate) async fn verify(&self, workload: Workload, requests: &[Request]) -> Result<()> {
        for request in requests.iter().take(SAMPLE_COUNT) {
            self.send_expecting_success(workload, request).await?;
        }
        Ok(())
    }

    /// Like [`Fixture::verify`], and records the Redis commands of each request.
    pub(crate) async fn sample(&self, workload: Workload, requests: &[Request]) -> Result<Sample> {
        // The gateway may need one refusal from Redis before it refuses the client from memory.
        self.send(requests.first().context("the workload has no requests")?).await?;
        let redis = &self.bench.redis;
        let mut monitor = Monitor::start(redis)?;
        let (mut trips, mut call) = (Vec::new(), None);
        let count = if workload == Workload::Mixed { 100 } else { SAMPLE_COUNT };
        for request in requests.iter().cycle().skip(1).take(count) {
            if request.method == "GET" {
                // Fill the caches of the gateway first.
                self.send_expecting_success(workload, request).await?;
            }
            monitor.drain(redis)?;
            let response = self.send_expecting_success(workload, request).await?;
            let commands = monitor.drain(redis)?;
            trips.push(round_trips(&commands));
            let id = match workload {
                Workload::PostJob => job_id(&response)?,
                _ => request.path.split('/').nth(4).unwrap_or_default().to_owned(),
            };
            let is_about_job = |command: &Command| {
                command.is_from_client() && command.words.iter().any(|word| word.contains(&id))
            };
            let mut sent = commands.into_iter().filter(is_about_job);
            call =
                sent.next().filter(|_| sent.next().is_none()).map(|command| (command, id.clone()));
        }
        trips.sort_unstable();
        let round_trips = match workload {
            Workload::Mixed => trips.iter().sum::<usize>() as f64 / trips.len() as f64,
            // The median ignores the rare requests that coincide with background commands of the server.
            _ => trips[trips.len() / 2] as f64,
        };
        Ok(Sample { round_trips, call })
    }

    async fn send_expecting_success(
        &self,
        workload: Workload,
        request: &Request,
    ) -> Result<String> {
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let Request { method, path, .. } = request;
        let is_expected = workload.expected_statuses(self.server.kind).contains(&status);
        ensure!(is_expected, "unexpected status of {method} {path}: {status}: {text}");
        Ok(text)
    }
}

fn job_id(response: &str) -> Result<String> {
    let job: Value = serde_json::from_str(response)?;
    job["job_id"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the response has no job_id: {response}"))
}

fn run_script(redis: &Redis, script: &str) -> Result<()> {
    let reply = redis.run(&["EVAL", script, "0"])?;
    ensure!(reply.starts_with(':'), "unexpected reply of Redis: {reply}");
    Ok(())
}
