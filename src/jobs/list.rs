//! Pages of an owner's jobs, newest first, in cost proportional to the page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use fred::types::{Key, Value};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    model::{parse_percent, parse_time},
    status::Status,
    store::cluster,
};
use crate::{
    error::{Error, Result},
    ids::{JobId, Sha256Hex},
    store::{Database, JobRetention, Redis, Script, user_jobs_keys},
};

static LIST: Script =
    Script::with_timestamps(include_str!("../../migrations-lua/jobs/list_page.lua")).idempotent();

/// What is read of a job's record; `list.lua` reads the same.
pub(super) const FIELDS: [&str; 9] = [
    "job_id",
    "status",
    "total_files",
    "completed_files",
    "failed_files",
    "overall",
    "created_at",
    "updated_at",
    "error",
];

/// A part of a list, in words of Redis.
pub(super) struct PageQuery<'a> {
    pub(super) n: usize,
    /// Jobs after this one: its score, or `+inf`, and its id, or nothing.
    pub(super) score: &'a str,
    pub(super) after: &'a str,
    /// Unix milliseconds, or `-inf`.
    pub(super) oldest: &'a str,
}

/// Jobs that one call looks at; a filter that few jobs pass makes short pages, not slow ones.
const MAX_SCANNED: usize = 1000;

/// Which jobs are asked for.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) status: Option<Status>,
    pub(crate) created_after: Option<DateTime<Utc>>,
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
}

/// A place in the list, between two jobs. Stable while jobs come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Creation in Unix milliseconds, as Redis spells the score.
    score: String,
    job: JobId,
}

/// A page, and where the next begins.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) jobs: Vec<Summary>,
    pub(crate) next: Option<Cursor>,
}

/// A job as lists show it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobSummary)]
pub(crate) struct Summary {
    job_id: JobId,
    status: Status,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    progress: u8,
    total_files: u32,
    completed_files: u32,
    failed_files: u32,
    /// What the job is about, for people.
    #[schema(example = "chair.png")]
    #[serde(skip_serializing_if = "Option::is_none")]
    first_filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Cursor {
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.score, self.job))
    }

    /// # Errors
    ///
    /// [`Error::Validation`] for what [`Cursor::encode`] did not make.
    pub(crate) fn decode(text: &str) -> Result<Self> {
        let bad = || Error::Validation("cursor: use next_cursor of the page before".to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (score, job) = text.split_once(':').ok_or_else(bad)?;
        if score.is_empty() || !score.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        Ok(Self { score: score.to_owned(), job: job.parse().map_err(|_| bad())? })
    }
}

/// One page of `owner`'s jobs. Ids of jobs that are gone vanish from the owner's set on the way.
pub(super) async fn page(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    filter: &Filter,
) -> Result<Page> {
    if redis.layout().is_multi_database() {
        page_by_script(redis, owner, filter).await
    } else {
        page_from_cluster(redis, retention, owner, filter).await
    }
}

/// In a cluster every job has its own slot, so no script reads them together.
async fn page_from_cluster(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    filter: &Filter,
) -> Result<Page> {
    let oldest =
        filter.created_after.map_or("-inf".to_owned(), |it| it.timestamp_millis().to_string());
    let mut cursor = filter.after.clone();
    let (mut jobs, mut seen_count) = (Vec::new(), 0);
    loop {
        let job = cursor.as_ref().map(|it| it.job.to_string()).unwrap_or_default();
        let wanted = PageQuery {
            n: filter.limit.max(1),
            score: cursor.as_ref().map_or("+inf", |it| it.score.as_str()),
            after: &job,
            oldest: &oldest,
        };
        let batch = cluster::read_index_page(redis, retention, owner, &wanted).await?;
        if batch.is_empty() {
            return Ok(Page { jobs, next: None });
        }
        for cluster::IndexedJob { job, score, fields } in batch {
            seen_count += 1;
            let summary = fields.and_then(|it| Summary::from_stored(&it));
            jobs.extend(
                summary.filter(|it| filter.status.is_none_or(|wanted| wanted == it.status)),
            );
            cursor = Some(Cursor { score, job });
            if jobs.len() >= filter.limit || seen_count >= MAX_SCANNED {
                return Ok(Page { jobs, next: cursor });
            }
        }
    }
}

async fn page_by_script(redis: &Redis, owner: &Sha256Hex, filter: &Filter) -> Result<Page> {
    let keys = user_jobs_keys(owner).map(Key::from).to_vec();
    let oldest = filter.created_after.map(|it| it.timestamp_millis().to_string());
    let args = vec![
        Value::from(filter.limit.to_string()),
        Value::from(filter.after.as_ref().map_or("+inf", |it| it.score.as_str())),
        Value::from(filter.after.as_ref().map(|it| it.job.to_string()).unwrap_or_default()),
        Value::from(oldest.unwrap_or_else(|| "-inf".to_owned())),
        Value::from(filter.status.map_or("", Status::as_str)),
        Value::from(MAX_SCANNED.to_string()),
    ];
    // The newest job stands on the first page, and its owner looks for it at once.
    let from_replica = match filter.after {
        Some(_) => LIST.run_on_replica(redis, keys.clone(), args.clone()).await,
        None => None,
    };
    let answer: Value = match from_replica {
        Some(answer) => answer,
        None => LIST.run(redis.default_keyspace(Database::Jobs), keys, args).await?,
    };
    let mut parts = answer.into_array().into_iter().skip(1);
    let mut next = || parts.next().unwrap_or(Value::Null);
    let (score, job): (String, String) = (next().convert()?, next().convert()?);
    let records = next().into_array();
    let jobs = records
        .into_iter()
        .filter_map(|it| Summary::from_stored(&it.convert::<Vec<_>>().ok()?))
        .collect();
    Ok(Page { jobs, next: job.parse().ok().map(|job| Cursor { score, job }) })
}

impl Summary {
    /// From the fields that `list.lua` names.
    fn from_stored(fields: &[Option<String>]) -> Option<Self> {
        let text = |i: usize| fields.get(i).and_then(Option::as_deref).filter(|it| !it.is_empty());
        let count = |i: usize| text(i).and_then(|it| it.parse::<u32>().ok()).unwrap_or(0);
        let status = Status::from_stored(text(1).unwrap_or("pending"));
        Some(Self {
            job_id: text(0)?.parse().ok()?,
            status,
            progress: if status.has_results() { 100 } else { text(5).map_or(0, parse_percent) },
            total_files: count(2),
            completed_files: count(3),
            failed_files: count(4),
            first_filename: text(9).and_then(first_filename),
            created_at: text(6).and_then(parse_time),
            updated_at: text(7).and_then(parse_time),
            error: text(8).map(str::to_owned),
        })
    }
}

fn first_filename(file_json: &str) -> Option<String> {
    let file: serde_json::Value = serde_json::from_str(file_json).ok()?;
    file.get("filename")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let cursor = Cursor { score: "1795405722764".to_owned(), job: JobId::random() };
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        for bad in
            ["", "x", "MTIz", &URL_SAFE_NO_PAD.encode("(1:2"), &URL_SAFE_NO_PAD.encode("1:*")]
        {
            assert!(Cursor::decode(bad).is_err(), "{bad}");
        }
    }
}
