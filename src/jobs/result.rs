//! What a worker says of a file it is done with.

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

/// The body of PUT …/`files/{file_id}/result`, and with a `file_id` what is stored.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileResult {
    status: ResultKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Model>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Which attempt this is from; without it, the present one.
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

/// The finished model. Fields beyond these are kept.
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
    /// Bytes.
    #[serde(deserialize_with = "lenient_int")]
    size: u64,
    mime_type: String,
    #[schema(value_type = FileUrl)]
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rendered_image: Option<RenderedImage>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct RenderedImage {
    #[schema(value_type = FileUrl)]
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// The body of PUT …/result: a model or an error.
#[derive(ToSchema)]
#[schema(as = FileResult)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes which FileResult passes its check")]
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
    /// Which attempt this is from; without it, the present one.
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
    /// For people, 1 to 4096 bytes.
    #[schema(min_length = 1, max_length = 4096, example = "no object in the picture")]
    error: String,
    /// Which attempt this is from; without it, the present one.
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

/// What is stored of a file's result. Other programs may have written more.
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
    /// A failure that the service itself found.
    pub(crate) fn failed(error: &str) -> Self {
        let error = if error.is_empty() { "the task failed" } else { error };
        Self {
            status: ResultKind::Failed,
            result: None,
            error: Some(error.to_owned()),
            attempt: None,
        }
    }

    /// A success of a worker that does not say where its model is.
    pub(crate) fn without_model() -> Self {
        Self { status: ResultKind::Completed, result: None, error: None, attempt: None }
    }

    pub(super) fn status(&self) -> &'static str {
        match self.status {
            ResultKind::Completed => "completed",
            ResultKind::Failed => "failed",
        }
    }

    /// 0 stands for the present attempt.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(0)
    }

    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    pub(super) fn validate(&self, max_size: ByteSize) -> Result<(), String> {
        const MAX_ERROR: usize = 4096;
        const MAX_URL: usize = 4096;
        match (self.status, &self.result, &self.error) {
            (ResultKind::Completed, None, _) => {
                return Err("result: a completed file needs one".to_owned());
            }
            (ResultKind::Completed, _, Some(_)) => {
                return Err("error: a completed file has none".to_owned());
            }
            (ResultKind::Failed, Some(_), _) => {
                return Err("result: a failed file has none".to_owned());
            }
            (ResultKind::Failed, _, None) => {
                return Err("error: a failed file needs one".to_owned());
            }
            (ResultKind::Failed, None, Some(error))
                if error.is_empty() || error.len() > MAX_ERROR =>
            {
                return Err(format!("error: needs 1 to {MAX_ERROR} bytes"));
            }
            _ => (),
        }
        if self.attempt == Some(0) {
            return Err("attempt: the first attempt is 1".to_owned());
        }
        let Some(model) = &self.result else { return Ok(()) };
        validate_filename(&model.filename).map_err(|it| format!("result.{it}"))?;
        validate_url(&model.url, MAX_URL).map_err(|it| format!("result.{it}"))?;
        if let Some(image) = &model.rendered_image {
            validate_url(&image.url, MAX_URL)
                .map_err(|it| format!("result.rendered_image.{it}"))?;
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
