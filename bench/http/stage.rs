//! A server with the jobs that its workloads are about.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, Response, header};
use serde_json::Value;

use crate::{
    bench::Bench,
    monitor::{Command, Monitor, round_trips},
    redis::Redis,
    servers::{Limits, Server},
    workload::{Ask, Job, Jobs, KEY, N_BATCH, N_FILES, Workload, get_status, post_job},
};

const N_JOBS: usize = 200;
const N_LARGE_JOBS: usize = 40;
/// Requests that are watched one by one.
const N_SAMPLES: usize = 11;

/// Percents of other jobs, in the seed's own keys.
const ADD_FOREIGN_KEYS: &str = "redis.call('SELECT', 2)
    for i = 0, 99999 do
        local job = string.format('00000000-0000-4000-8000-%012d', math.floor(i / 5))
        redis.call('SET', 'progress:' .. job .. ':file_00' .. i % 5, '40', 'EX', 86400)
    end
    return 1";
const REMOVE_ALL_PROGRESS: &str = "redis.call('SELECT', 2) redis.call('FLUSHDB') return 1";

pub(crate) struct Stage<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) server: Server,
    jobs: Jobs,
    http: reqwest::Client,
}

/// What single requests showed.
pub(crate) struct Sample {
    pub(crate) round_trips: f64,
    /// What the last of them sent to Redis, if that was one call, and the job that it was about.
    pub(crate) call: Option<(Command, String)>,
}

impl<'a> Stage<'a> {
    pub(crate) async fn new(bench: &'a Bench, limits: Limits) -> Result<Self> {
        let server = Server::start(bench.kind, limits, &bench.redis, &bench.dir).await?;
        let jobs = Jobs { few: Vec::new(), many: Vec::new() };
        // Servers close what was idle for some time, just when it may be used again.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        Ok(Self { bench, server, jobs, http })
    }

    /// Makes what `workload` needs, and returns its requests.
    pub(crate) async fn prepare(&mut self, workload: Workload) -> Result<Vec<Ask>> {
        match workload {
            Workload::GetProgress | Workload::Refused => {
                self.jobs.few = self.create(N_FILES, 1).await?;
            }
            Workload::GetProgressAmongMany => run_script(&self.bench.redis, ADD_FOREIGN_KEYS)?,
            Workload::Livez | Workload::GetJobLimited => {
                run_script(&self.bench.redis, REMOVE_ALL_PROGRESS)?;
                self.jobs.few = self.create(N_FILES, N_JOBS).await?;
                self.jobs.many = self.create(N_BATCH, N_LARGE_JOBS).await?;
            }
            Workload::GetStatusAgain => self.read_etags().await?,
            _ => (),
        }
        Ok(workload.asks(&self.jobs))
    }

    pub(crate) async fn create(&self, n_files: usize, n: usize) -> Result<Vec<Job>> {
        let (ask, mut jobs) = (post_job(n_files), Vec::new());
        for _ in 0..n {
            let answer = self.send(&ask).await?.error_for_status()?.text().await?;
            jobs.push(Job { id: job_id(&answer)?, etag: None });
        }
        Ok(jobs)
    }

    async fn read_etags(&mut self) -> Result<()> {
        let mut jobs = std::mem::take(&mut self.jobs.few);
        for job in &mut jobs {
            let answer = self.send(&get_status(job)).await?.error_for_status()?;
            let etag = answer.headers().get(header::ETAG);
            job.etag = etag.and_then(|it| it.to_str().ok()).map(str::to_owned);
        }
        self.jobs.few = jobs;
        Ok(())
    }

    async fn send(&self, ask: &Ask) -> Result<Response> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let method: Method = ask.method.parse()?;
        let url = format!("http://{}{}", self.server.addr, ask.path);
        let mut request = self.http.request(method, url).bearer_auth(KEY).timeout(PATIENCE);
        if let Some(etag) = &ask.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(body) = &ask.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        Ok(request.send().await?)
    }

    /// Sends some of the requests, one by one, and sees whether they are answered as they should be.
    pub(crate) async fn check(&self, workload: Workload, asks: &[Ask]) -> Result<()> {
        for ask in asks.iter().take(N_SAMPLES) {
            self.answer(workload, ask).await?;
        }
        Ok(())
    }

    /// As [`Stage::check`], and looks at what Redis has to do for each.
    pub(crate) async fn sample(&self, workload: Workload, asks: &[Ask]) -> Result<Sample> {
        // The caller may have to be refused by Redis before it is known to be over its limit.
        self.send(asks.first().context("nothing to ask")?).await?;
        let redis = &self.bench.redis;
        let mut monitor = Monitor::start(redis)?;
        let (mut trips, mut call) = (Vec::new(), None);
        let n = if workload == Workload::Mixed { 100 } else { N_SAMPLES };
        for ask in asks.iter().cycle().skip(1).take(n) {
            if ask.method == "GET" {
                // What is cached by it is cached from now on.
                self.answer(workload, ask).await?;
            }
            monitor.take(redis)?;
            let answer = self.answer(workload, ask).await?;
            let commands = monitor.take(redis)?;
            trips.push(round_trips(&commands));
            let id = match workload {
                Workload::PostJob => job_id(&answer)?,
                _ => ask.path.split('/').nth(4).unwrap_or_default().to_owned(),
            };
            let about_job =
                |it: &Command| it.is_sent() && it.words.iter().any(|it| it.contains(&id));
            let mut sent = commands.into_iter().filter(about_job);
            call = sent.next().filter(|_| sent.next().is_none()).map(|it| (it, id.clone()));
        }
        trips.sort_unstable();
        let round_trips = match workload {
            Workload::Mixed => trips.iter().sum::<usize>() as f64 / trips.len() as f64,
            // What the server does by itself now and then falls on few of them.
            _ => trips[trips.len() / 2] as f64,
        };
        Ok(Sample { round_trips, call })
    }

    async fn answer(&self, workload: Workload, ask: &Ask) -> Result<String> {
        let answer = self.send(ask).await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let Ask { method, path, .. } = ask;
        let is_expected = workload.statuses(self.server.kind).contains(&status);
        ensure!(is_expected, "{method} {path} is answered {status}: {text}");
        Ok(text)
    }
}

fn job_id(answer: &str) -> Result<String> {
    let job: Value = serde_json::from_str(answer)?;
    job["job_id"].as_str().map(str::to_owned).with_context(|| format!("what job is this: {answer}"))
}

fn run_script(redis: &Redis, script: &str) -> Result<()> {
    let answer = redis.run(&["EVAL", script, "0"])?;
    ensure!(answer.starts_with(':'), "Redis says {answer}");
    Ok(())
}
