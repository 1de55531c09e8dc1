//! A job as callers ask for it, checked once.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Config;
use crate::{
    error::{Error, Result},
    ids::{FileId, Sha256Hex, truncate_quoted},
    serde_integer::lenient_int_opt,
};

/// The body of POST /jobs.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewJob)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateJobRequest {
    #[schema(min_items = 1)]
    files: Vec<NewFile>,
    /// What the worker shall do with the files; passed on as it is.
    #[serde(default)]
    params: Map<String, Value>,
    /// Told when the job has ended.
    webhook_url: Option<String>,
}

/// A name and no path, 1 to 255 bytes.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 255, example = "chair.png",
    pattern = r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]+$")]
#[expect(dead_code, reason = "describes what `check_filename` lets in")]
pub(super) struct Filename(String);

/// An absolute http(s), s3 or gs URL, or a path.
#[derive(ToSchema)]
#[schema(as = Link, value_type = String, max_length = 2048, example = "https://uploads.example/chair.png",
    pattern = r"^(https?://|/|s3://|gs://)[!-~]*$")]
#[expect(dead_code, reason = "describes what `check_url` lets in")]
pub(super) struct FileUrl(String);

/// One picture. Its bytes are elsewhere; this says what they are.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFile {
    #[schema(value_type = Filename)]
    filename: String,
    /// Bytes.
    #[schema(example = 204_800)]
    #[serde(
        default,
        deserialize_with = "lenient_int_opt",
        skip_serializing_if = "Option::is_none"
    )]
    size: Option<u64>,
    #[schema(
        example = "image/png",
        max_length = 127,
        pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+/[A-Za-z0-9!#$%&'*+.^_`|~-]+ *(;[ -~]*)?$"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Where a worker fetches the picture.
    #[schema(value_type = Option<FileUrl>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Anything the caller wants to find again.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

/// What is stored of a new job.
pub(super) struct ValidatedJob {
    /// One JSON object a file, with its `file_id`.
    pub(super) files: Vec<String>,
    /// A JSON object, or empty.
    pub(super) params: String,
    /// A URL, or empty.
    pub(super) webhook_url: String,
}

impl ValidatedJob {
    /// The same for requests that ask for the same.
    pub(super) fn request_hash(&self) -> Sha256Hex {
        Sha256Hex::digest(&format!(
            "{}\n{}\n{}",
            self.files.join("\n"),
            self.params,
            self.webhook_url
        ))
    }
}

impl CreateJobRequest {
    pub(super) fn params(&self) -> &Map<String, Value> {
        &self.params
    }

    /// Where the job's end is to be told; not yet checked.
    pub(crate) fn webhook_url(&self) -> Option<&str> {
        self.webhook_url.as_deref()
    }

    pub(super) fn validate(&self, config: &Config) -> Result<ValidatedJob> {
        if self.files.is_empty() {
            return Err(Error::Validation("files: a job needs at least one file".to_owned()));
        }
        if self.files.len() > config.max_files {
            return Err(Error::TooManyFiles { max: config.max_files, got: self.files.len() });
        }
        let files = self.files.iter().enumerate().map(|(index, file)| {
            file.validate(config)
                .map_err(|reason| Error::Validation(format!("files[{index}].{reason}")))?;
            file.to_json(FileId::from_index(index))
        });
        Ok(ValidatedJob {
            files: files.collect::<Result<_>>()?,
            params: self.params_json(config)?,
            webhook_url: self.webhook_url.clone().unwrap_or_default(),
        })
    }

    fn params_json(&self, config: &Config) -> Result<String> {
        if self.params.is_empty() {
            return Ok(String::new());
        }
        let json = to_json(&self.params)?;
        if json.len() as u64 > config.max_params_size.as_u64() {
            return Err(Error::Validation(format!(
                "params: {} bytes of JSON are more than {}",
                json.len(),
                config.max_params_size
            )));
        }
        Ok(json)
    }
}

impl NewFile {
    fn validate(&self, config: &Config) -> Result<(), String> {
        const MAX_URL: usize = 2048;
        const MAX_METADATA: usize = 4096;
        validate_filename(&self.filename)?;
        if self.size.is_some_and(|it| it > config.max_file_size.as_u64()) {
            return Err(format!("size: more than {}", config.max_file_size));
        }
        if let Some(content_type) = &self.content_type {
            validate_content_type(content_type)?;
        }
        if let Some(url) = &self.url {
            validate_url(url, MAX_URL)?;
        }
        if self.metadata.is_empty() {
            return Ok(());
        }
        match serde_json::to_vec(&self.metadata) {
            Ok(json) if json.len() <= MAX_METADATA => Ok(()),
            _ => Err(format!("metadata: more than {MAX_METADATA} bytes of JSON")),
        }
    }

    fn to_json(&self, file_id: FileId) -> Result<String> {
        #[derive(Serialize)]
        struct Stored<'a> {
            file_id: FileId,
            #[serde(flatten)]
            file: &'a NewFile,
        }
        to_json(&Stored { file_id, file: self })
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Validation(error.to_string()))
}

/// A name and no path: it will be shown, logged and used to name downloads.
pub(super) fn validate_filename(name: &str) -> Result<(), String> {
    const MAX_BYTES: usize = 255;
    if name.is_empty() || name.len() > MAX_BYTES {
        return Err(format!("filename: has {} bytes; it needs 1 to {MAX_BYTES}", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("filename: holds a control character: {}", truncate_quoted(name)));
    }
    if name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(format!("filename: is a path and not a name: {}", truncate_quoted(name)));
    }
    Ok(())
}

/// `type/subtype` of RFC 9110 tokens, parameters allowed.
fn validate_content_type(text: &str) -> Result<(), String> {
    const MAX_BYTES: usize = 127;
    let token = |it: &str| {
        !it.is_empty()
            && it.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let valid = text.len() <= MAX_BYTES
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if valid {
        Ok(())
    } else {
        Err(format!("content_type: {} is no media type such as image/png", truncate_quoted(text)))
    }
}

/// A link that a page may show: `javascript:` and the like would run there.
pub(super) fn validate_url(url: &str, max_bytes: usize) -> Result<(), String> {
    let known = ["https://", "http://", "/", "s3://", "gs://"].iter().any(|it| url.starts_with(it));
    if known
        && url.len() <= max_bytes
        && !url.chars().any(|it| it.is_control() || it.is_whitespace())
    {
        return Ok(());
    }
    Err(format!(
        "url: {} is no http(s), s3, gs or absolute path of at most {max_bytes} bytes",
        truncate_quoted(url)
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("chair.png", true)]
    #[case::spaces_and_unicode("mein Stuhl – größer.png", true)]
    #[case::as_long_as_may_be(&"a".repeat(255), true)]
    #[case::too_long(&"a".repeat(256), false)]
    #[case::empty("", false)]
    #[case::parent("..", false)]
    #[case::slash("a/b.png", false)]
    #[case::backslash("a\\b.png", false)]
    #[case::newline("a\nb", false)]
    #[case::nul("a\0b", false)]
    fn a_filename_is_a_name(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(validate_filename(name).is_ok(), valid);
    }

    #[rstest]
    #[case("image/png", true)]
    #[case("image/svg+xml; charset=utf-8", true)]
    #[case("png", false)]
    #[case("image/", false)]
    #[case("image/png\r\nX: y", false)]
    fn a_content_type_is_a_media_type(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(validate_content_type(text).is_ok(), valid);
    }

    #[rstest]
    #[case("https://cdn.example.com/a.glb", true)]
    #[case("/files/a.glb", true)]
    #[case("javascript:alert(1)", false)]
    #[case("https://a b", false)]
    fn a_url_can_be_shown(#[case] url: &str, #[case] valid: bool) {
        assert_eq!(validate_url(url, 2048).is_ok(), valid);
    }
}
