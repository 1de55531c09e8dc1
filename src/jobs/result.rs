//! The result of a file, reported by a worker.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::create::{FileUrl, Filename, validate_filename, validate_url};
use crate::{
    error::{Error, Result},
    ids::FileId,
    serde_integer::{lenient_int, lenient_int_opt},
};

/// The body of PUT …/`files/{file_id}/result`. The stored form also has a `file_id`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileResult {
    status: ResultKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Model>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The attempt of the file that the result belongs to; by default the current one.
    #[serde(
        default,
        deserialize_with = "lenient_int_opt",
        skip_serializing_if = "Option::is_none"
    )]
    attempt: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = Outcome)]
#[serde(rename_all = "lowercase")]
enum ResultKind {
    Completed,
    Failed,
}

/// The finished model. Other fields are stored too.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(example = json!({
    "filename": "chair.glb",
    "size": 81_920,
    "mime_type": "model/gltf-binary",
    "url": "https://models.example/chair.glb",
    "rendered_image": {"url": "https://models.example/chair.png"},
}))]
struct Model {
    #[schema(value_type = Filename)]
    filename: String,
    /// Size in bytes.
    #[serde(deserialize_with = "lenient_int")]
    size: u64,
    mime_type: String,
    #[schema(value_type = FileUrl)]
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rendered_image: Option<RenderedImage>,
    #[serde(flatten)]
    other_fields: Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct RenderedImage {
    #[schema(value_type = FileUrl)]
    url: String,
    #[serde(flatten)]
    other_fields: Map<String, Value>,
}

/// The body of PUT …/result: a model or an error.
#[derive(ToSchema)]
#[schema(as = FileResult)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes a valid FileResult")]
pub(crate) enum FileResultRequest {
    Completed(CompletedResultRequest),
    Failed(FailedResultRequest),
}

#[derive(ToSchema)]
#[schema(as = CompletedFileResult)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct CompletedResultRequest {
    #[schema(inline)]
    status: OnlyCompleted,
    result: Model,
    /// The attempt of the file that the result belongs to; by default the current one.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
}

#[derive(ToSchema)]
#[schema(as = FailedFileResult)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct FailedResultRequest {
    #[schema(inline)]
    status: OnlyFailed,
    /// Error message for people, 1 to 4096 bytes.
    #[schema(min_length = 1, max_length = 4096, example = "no object in the picture")]
    error: String,
    /// The attempt of the file that the result belongs to; by default the current one.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "see above")]
enum OnlyCompleted {
    Completed,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "see above")]
enum OnlyFailed {
    Failed,
}

/// The stored result of a file. Results of other programs may have more fields.
#[derive(ToSchema)]
#[schema(as = StoredResult)]
#[expect(dead_code, reason = "describes the JSON of to_json")]
pub(crate) struct FileResultResponse {
    file_id: FileId,
    status: ResultKind,
    result: Option<Model>,
    error: Option<String>,
    attempt: Option<u32>,
}

impl FileResult {
    /// A failure that the service detected.
    pub(crate) fn failed(error: &str) -> Self {
        let error = if error.is_empty() { "the task failed" } else { error };
        Self {
            status: ResultKind::Failed,
            result: None,
            error: Some(error.to_owned()),
            attempt: None,
        }
    }

    /// A success without the URL of the model, which the worker did not report.
    pub(crate) fn without_model() -> Self {
        Self { status: ResultKind::Completed, result: None, error: None, attempt: None }
    }

    pub(super) fn status(&self) -> &'static str {
        match self.status {
            ResultKind::Completed => "completed",
            ResultKind::Failed => "failed",
        }
    }

    /// 0 means the current attempt.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(0)
    }

    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    pub(super) fn validate(&self, max_size: ByteSize) -> Result<(), String> {
        const MAX_ERROR_BYTES: usize = 4096;
        const MAX_URL_BYTES: usize = 4096;
        match (self.status, &self.result, &self.error) {
            (ResultKind::Completed, None, _) => {
                return Err("result: required for a completed file".to_owned());
            }
            (ResultKind::Completed, _, Some(_)) => {
                return Err("error: not allowed for a completed file".to_owned());
            }
            (ResultKind::Failed, Some(_), _) => {
                return Err("result: not allowed for a failed file".to_owned());
            }
            (ResultKind::Failed, _, None) => {
                return Err("error: required for a failed file".to_owned());
            }
            (ResultKind::Failed, None, Some(error))
                if error.is_empty() || error.len() > MAX_ERROR_BYTES =>
            {
                return Err(format!(
                    "error: has {} bytes; the limits are 1 and {MAX_ERROR_BYTES}",
                    error.len()
                ));
            }
            _ => (),
        }
        if self.attempt == Some(0) {
            return Err("attempt: the first attempt is 1".to_owned());
        }
        let Some(model) = &self.result else { return Ok(()) };
        validate_filename(&model.filename).map_err(|reason| format!("result.{reason}"))?;
        validate_url(&model.url, MAX_URL_BYTES).map_err(|reason| format!("result.{reason}"))?;
        if let Some(image) = &model.rendered_image {
            validate_url(&image.url, MAX_URL_BYTES)
                .map_err(|reason| format!("result.rendered_image.{reason}"))?;
        }
        match serde_json::to_vec(model) {
            Ok(json) if json.len() as u64 <= max_size.as_u64() => Ok(()),
            _ => Err(format!("result: more than {max_size} of JSON")),
        }
    }

    pub(super) fn to_json(&self, file_id: FileId) -> Result<String> {
        #[derive(Serialize)]
        struct Stored<'a> {
            file_id: FileId,
            #[serde(flatten)]
            result: &'a FileResult,
        }
        serde_json::to_string(&Stored { file_id, result: self })
            .map_err(|error| Error::Validation(error.to_string()))
    }
}
