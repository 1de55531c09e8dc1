//! Progress reports of workers, and their validation.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::{Error, Result},
    ids::FileId,
    serde_integer::{lenient_int, lenient_int_opt},
};

/// The body of POST …/`files/{file_id}/progress`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = FileReport)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileProgressRequest {
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    #[serde(deserialize_with = "lenient_int")]
    progress: u8,
    /// Message for people, at most 1024 bytes.
    #[schema(max_length = 1024, example = "building the mesh")]
    #[serde(default)]
    message: Option<String>,
    /// The attempt of the file, by default the current one. Reports of older attempts are ignored.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "lenient_int_opt")]
    attempt: Option<u32>,
}

/// The body of POST …/progress, with reports of several files.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = BatchReport)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchProgressRequest {
    #[schema(min_items = 1)]
    files: Vec<BatchProgressItem>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = BatchItem)]
#[serde(deny_unknown_fields)]
struct BatchProgressItem {
    file_id: FileId,
    /// Percent.
    #[schema(maximum = 100, example = 40)]
    #[serde(deserialize_with = "lenient_int")]
    progress: u8,
    /// Message for people, at most 1024 bytes.
    #[schema(max_length = 1024, example = "building the mesh")]
    #[serde(default)]
    message: Option<String>,
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "lenient_int_opt")]
    attempt: Option<u32>,
}

/// A valid report of a file's progress.
#[derive(Debug)]
pub(crate) struct ProgressUpdate {
    pub(crate) file_id: FileId,
    /// 0 to 100.
    pub(crate) progress: u8,
    pub(crate) message: Option<String>,
    /// 0 means the current attempt.
    pub(crate) attempt: u32,
}

impl FileProgressRequest {
    pub(crate) fn validate(self, file_id: FileId) -> Result<ProgressUpdate> {
        ProgressUpdate::new(file_id, self.progress, self.message, self.attempt)
    }
}

impl BatchProgressRequest {
    pub(crate) fn validate(self, max_files: usize) -> Result<Vec<ProgressUpdate>> {
        if self.files.is_empty() || self.files.len() > max_files {
            return Err(Error::Validation(format!(
                "files: has {} entries; the limits are 1 and {max_files}",
                self.files.len()
            )));
        }
        self.files
            .into_iter()
            .map(|file| {
                ProgressUpdate::new(file.file_id, file.progress, file.message, file.attempt)
            })
            .collect()
    }
}

impl ProgressUpdate {
    /// Validates the fields of a report. `attempt` is by default the current one.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] names the invalid field.
    pub(crate) fn new(
        file_id: FileId,
        progress: u8,
        message: Option<String>,
        attempt: Option<u32>,
    ) -> Result<Self> {
        const MAX_MESSAGE_BYTES: usize = 1024;
        if progress > 100 {
            return Err(Error::Validation(format!("progress: {progress} is more than 100")));
        }
        if message.as_ref().is_some_and(|message| message.len() > MAX_MESSAGE_BYTES) {
            return Err(Error::Validation(format!("message: more than {MAX_MESSAGE_BYTES} bytes")));
        }
        if attempt == Some(0) {
            return Err(Error::Validation("attempt: the first attempt is 1".to_owned()));
        }
        Ok(Self { file_id, progress, message, attempt: attempt.unwrap_or(0) })
    }
}
