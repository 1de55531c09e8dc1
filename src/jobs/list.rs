//! Pages of an owner's jobs, newest first. The cost is proportional to the size of the page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
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
    store::{
        Database, JobRetention, Redis, Script,
        client::{Key, Value},
        user_jobs_keys,
    },
};

static LIST: Script =
    Script::with_timestamps(include_str!("../../migrations-lua/jobs/list_page.lua")).idempotent();

/// The fields of a job's record that lists need. `jobs/list_page.lua` reads the same fields.
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

/// The arguments of `jobs/owner_index_page.lua`.
pub(super) struct PageQuery<'a> {
    pub(super) limit: usize,
    /// The score of the last job of the previous page, or `+inf`.
    pub(super) score: &'a str,
    /// The id of the last job of the previous page, or an empty string.
    pub(super) after: &'a str,
    /// The oldest creation time in Unix milliseconds, or `-inf`.
    pub(super) oldest: &'a str,
}

/// The maximum number of jobs that one call scans, so that a filter that few jobs match results in short pages instead
/// of slow ones.
const MAX_SCANNED: usize = 1000;

/// Selects the jobs of a page.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) status: Option<Status>,
    pub(crate) created_after: Option<DateTime<Utc>>,
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
}

/// A position in the list: after this job. It stays valid while jobs are created and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Creation time in Unix milliseconds, in the format of the score in Redis.
    score: String,
    job: JobId,
}

/// A page of jobs, and the cursor of the next page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) jobs: Vec<Summary>,
    pub(crate) next: Option<Cursor>,
}

/// A job in a list.
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
    /// The name of the job's first file.
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
    /// [`Error::Validation`] if `text` was not created by [`Cursor::encode`].
    pub(crate) fn decode(text: &str) -> Result<Self> {
        let invalid =
            || Error::Validation("cursor: must be the next_cursor of the previous page".to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (score, job) = text.split_once(':').ok_or_else(invalid)?;
        if score.is_empty() || !score.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        Ok(Self { score: score.to_owned(), job: job.parse().map_err(|_| invalid())? })
    }
}

/// Returns a page of `owner`'s jobs, and removes the ids of deleted jobs from the owner's index.
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

/// In a cluster, jobs have different slots, so a script cannot read them together.
async fn page_from_cluster(
    redis: &Redis,
    retention: JobRetention,
    owner: &Sha256Hex,
    filter: &Filter,
) -> Result<Page> {
    let oldest =
        filter.created_after.map_or("-inf".to_owned(), |time| time.timestamp_millis().to_string());
    let mut cursor = filter.after.clone();
    let (mut jobs, mut scanned_count) = (Vec::new(), 0);
    loop {
        let job = cursor.as_ref().map(|cursor| cursor.job.to_string()).unwrap_or_default();
        let query = PageQuery {
            limit: filter.limit.max(1),
            score: cursor.as_ref().map_or("+inf", |cursor| cursor.score.as_str()),
            after: &job,
            oldest: &oldest,
        };
        let batch = cluster::read_index_page(redis, retention, owner, &query).await?;
        if batch.is_empty() {
            return Ok(Page { jobs, next: None });
        }
        for cluster::IndexedJob { job, score, fields } in batch {
            scanned_count += 1;
            let summary = fields.and_then(|fields| Summary::from_stored(&fields));
            jobs.extend(
                summary.filter(|job| filter.status.is_none_or(|status| status == job.status)),
            );
            cursor = Some(Cursor { score, job });
            if jobs.len() >= filter.limit || scanned_count >= MAX_SCANNED {
                return Ok(Page { jobs, next: cursor });
            }
        }
    }
}

async fn page_by_script(redis: &Redis, owner: &Sha256Hex, filter: &Filter) -> Result<Page> {
    let keys = user_jobs_keys(owner).map(Key::from).to_vec();
    let oldest = filter.created_after.map(|time| time.timestamp_millis().to_string());
    let args = vec![
        Value::from(filter.limit.to_string()),
        Value::from(filter.after.as_ref().map_or("+inf", |cursor| cursor.score.as_str())),
        Value::from(filter.after.as_ref().map(|cursor| cursor.job.to_string()).unwrap_or_default()),
        Value::from(oldest.unwrap_or_else(|| "-inf".to_owned())),
        Value::from(filter.status.map_or("", Status::as_str)),
        Value::from(MAX_SCANNED.to_string()),
    ];
    // The first page comes from the primary, because clients expect a job that they just created.
    let from_replica = match filter.after {
        Some(_) => LIST.run_on_replica(redis, keys.clone(), args.clone()).await,
        None => None,
    };
    let reply: Value = match from_replica {
        Some(reply) => reply,
        None => LIST.run(redis.default_keyspace(Database::Jobs), keys, args).await?,
    };
    let mut parts = reply.into_array().into_iter().skip(1);
    let mut next = || parts.next().unwrap_or(Value::Null);
    let (score, job): (String, String) = (next().convert()?, next().convert()?);
    let records = next().into_array();
    let jobs = records
        .into_iter()
        .filter_map(|record| Summary::from_stored(&record.convert::<Vec<_>>().ok()?))
        .collect();
    Ok(Page { jobs, next: job.parse().ok().map(|job| Cursor { score, job }) })
}

impl Summary {
    /// Parses the values of [`FIELDS`], followed by the JSON of the first file.
    fn from_stored(fields: &[Option<String>]) -> Option<Self> {
        let text = |index: usize| {
            fields.get(index).and_then(Option::as_deref).filter(|value| !value.is_empty())
        };
        let count =
            |index: usize| text(index).and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
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
    fn a_cursor_survives_a_round_trip_and_other_texts_are_rejected() {
        let cursor = Cursor { score: "1795405722764".to_owned(), job: JobId::random() };
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        for invalid in
            ["", "x", "MTIz", &URL_SAFE_NO_PAD.encode("(1:2"), &URL_SAFE_NO_PAD.encode("1:*")]
        {
            assert!(Cursor::decode(invalid).is_err(), "{invalid}");
        }
    }
}
