//! Requests to create a job, and their validation.

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
    /// Parameters for the worker, passed on unchanged.
    #[serde(default)]
    params: Map<String, Value>,
    /// Receives a webhook when the job ends.
    webhook_url: Option<String>,
}

/// A file name without a path, 1 to 255 bytes.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 255, example = "chair.png",
    pattern = r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]+$")]
#[expect(dead_code, reason = "describes the names that `validate_filename` accepts")]
pub(super) struct Filename(String);

/// An absolute http(s), s3 or gs URL, or a path.
#[derive(ToSchema)]
#[schema(as = Link, value_type = String, max_length = 2048, example = "https://uploads.example/chair.png",
    pattern = r"^(https?://|/|s3://|gs://)[!-~]*$")]
#[expect(dead_code, reason = "describes the URLs that `validate_url` accepts")]
pub(super) struct FileUrl(String);

/// Describes one picture, which is stored elsewhere.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFile {
    #[schema(value_type = Filename)]
    filename: String,
    /// Size in bytes.
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
    /// The URL from which a worker fetches the picture.
    #[schema(value_type = Option<FileUrl>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Arbitrary data of the client, returned unchanged.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

/// A valid request, in the form in which the job is stored.
pub(super) struct ValidatedJob {
    /// A JSON object for each file, with its `file_id`.
    pub(super) files: Vec<String>,
    /// A JSON object, or an empty string.
    pub(super) params: String,
    /// A URL, or an empty string.
    pub(super) webhook_url: String,
}

impl ValidatedJob {
    /// Equal for requests with the same content.
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

    /// The URL of the webhook, not validated.
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
        const MAX_URL_BYTES: usize = 2048;
        const MAX_METADATA_BYTES: usize = 4096;
        validate_filename(&self.filename)?;
        if self.size.is_some_and(|size| size > config.max_file_size.as_u64()) {
            return Err(format!("size: more than {}", config.max_file_size));
        }
        if let Some(content_type) = &self.content_type {
            validate_content_type(content_type)?;
        }
        if let Some(url) = &self.url {
            validate_url(url, MAX_URL_BYTES)?;
        }
        if self.metadata.is_empty() {
            return Ok(());
        }
        match serde_json::to_vec(&self.metadata) {
            Ok(json) if json.len() <= MAX_METADATA_BYTES => Ok(()),
            _ => Err(format!("metadata: more than {MAX_METADATA_BYTES} bytes of JSON")),
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

/// Rejects paths and control characters, because the name is displayed, logged and used for downloads.
pub(super) fn validate_filename(name: &str) -> Result<(), String> {
    const MAX_BYTES: usize = 255;
    if name.is_empty() || name.len() > MAX_BYTES {
        return Err(format!(
            "filename: has {} bytes; the limits are 1 and {MAX_BYTES}",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("filename: contains a control character: {}", truncate_quoted(name)));
    }
    if name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(format!("filename: is a path instead of a name: {}", truncate_quoted(name)));
    }
    Ok(())
}

/// Accepts `type/subtype` of RFC 9110 tokens, with or without parameters.
fn validate_content_type(text: &str) -> Result<(), String> {
    const MAX_BYTES: usize = 127;
    let is_token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let valid = text.len() <= MAX_BYTES
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if valid {
        Ok(())
    } else {
        Err(format!(
            "content_type: {} is not a media type such as image/png",
            truncate_quoted(text)
        ))
    }
}

/// Accepts only URLs that a page can safely show as a link; a `javascript:` URL would run there.
pub(super) fn validate_url(url: &str, max_bytes: usize) -> Result<(), String> {
    let has_known_prefix =
        ["https://", "http://", "/", "s3://", "gs://"].iter().any(|prefix| url.starts_with(prefix));
    if has_known_prefix
        && url.len() <= max_bytes
        && !url.chars().any(|character| character.is_control() || character.is_whitespace())
    {
        return Ok(());
    }
    Err(format!(
        "url: {} is not an http(s), s3 or gs URL or an absolute path of at most {max_bytes} bytes",
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
    #[case::longest(&"a".repeat(255), true)]
    #[case::too_long(&"a".repeat(256), false)]
    #[case::empty("", false)]
    #[case::parent("..", false)]
    #[case::slash("a/b.png", false)]
    #[case::backslash("a\\b.png", false)]
    #[case::newline("a\nb", false)]
    #[case::nul("a\0b", false)]
    fn a_filename_is_validated(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(validate_filename(name).is_ok(), valid);
    }

    #[rstest]
    #[case("image/png", true)]
    #[case("image/svg+xml; charset=utf-8", true)]
    #[case("png", false)]
    #[case("image/", false)]
    #[case("image/png\r\nX: y", false)]
    fn a_content_type_is_validated(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(validate_content_type(text).is_ok(), valid);
    }

    #[rstest]
    #[case("https://cdn.example.com/a.glb", true)]
    #[case("/files/a.glb", true)]
    #[case("javascript:alert(1)", false)]
    #[case("https://a b", false)]
    fn a_url_is_validated(#[case] url: &str, #[case] valid: bool) {
        assert_eq!(validate_url(url, 2048).is_ok(), valid);
    }
}
