//! Reads the files of the repository, for the tests that check source text.

use std::{fs, path::Path};

/// A text file of the repository.
pub(crate) struct SourceFile {
    /// Relative to the root of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All files below `folder` that have one of these extensions, sorted by path. Hidden and generated folders are skipped.
/// A folder that does not exist has no files.
pub(crate) fn files_below(folder: &str, extensions: &[&str]) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !["node_modules", "dist", "target"].contains(&name) {
                    folders.push(path);
                }
            } else if let Some((_, extension)) = name.rsplit_once('.')
                && extensions.contains(&extension)
            {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}
