//! The pictures of a folder, as a front-end describes them to the service.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

/// The default of `jobs.max_files`.
const MAX_PICTURES: usize = 25;

/// The description of a picture in a job request.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    filename: String,
    size: u64,
    content_type: &'static str,
}

/// The first pictures of `folder` by name.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<Picture>> {
    let unreadable =
        || format!("cannot read the folder {}; --folder selects another folder", folder.display());
    let mut pictures = Vec::new();
    for entry in folder.read_dir().with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let metadata = path.metadata().with_context(unreadable)?;
        let name = path.file_name().and_then(|name| name.to_str());
        if let (true, Some(name), Some(content_type)) =
            (metadata.is_file(), name, content_type(&path))
        {
            pictures.push(Picture {
                filename: name.to_owned(),
                size: metadata.len(),
                content_type,
            });
        }
    }
    if pictures.is_empty() {
        bail!("{} contains no pictures; --folder selects another folder", folder.display());
    }
    pictures.sort_by(|left, right| left.filename.cmp(&right.filename));
    pictures.truncate(MAX_PICTURES);
    Ok(pictures)
}

fn content_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "webp" => Some("image/webp"),
        "avif" => Some("image/avif"),
        "heic" => Some("image/heic"),
        "gif" => Some("image/gif"),
        "bmp" => Some("image/bmp"),
        "tif" | "tiff" => Some("image/tiff"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pictures_are_filtered_sorted_and_limited() {
        let folder = tempfile::tempdir().unwrap();
        for index in (0..30).rev() {
            fs::write(folder.path().join(format!("{index:02}.PNG")), b"12345").unwrap();
        }
        fs::write(folder.path().join("00-notes.txt"), b"").unwrap();
        fs::create_dir(folder.path().join("00-folder.png")).unwrap();

        let pictures = in_folder(folder.path()).unwrap();

        assert_eq!(pictures.len(), MAX_PICTURES);
        assert_eq!((pictures[0].filename.as_str(), pictures[0].size), ("00.PNG", 5));
        assert_eq!(pictures[0].content_type, "image/png");
    }

    #[test]
    fn a_folder_without_pictures_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_folder(folder.path()).is_err());
        assert!(in_folder(&folder.path().join("none")).is_err());
    }
}
