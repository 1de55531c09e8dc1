//! The links of documents and the files that they name exist.

use std::fs;

use super::{documents, root};

/// The architecture decision records, which have links but no examples.
fn decisions() -> Vec<String> {
    let pages = fs::read_dir(root().join("docs/adr")).unwrap();
    pages.map(|entry| format!("docs/adr/{}", entry.unwrap().file_name().display())).collect()
}

/// The anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let lowercase = heading.trim().to_lowercase();
    lowercase
        .chars()
        .filter(|character| character.is_alphanumeric() || " -_".contains(*character))
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn link_targets_exist() {
    let mut wrong = Vec::new();
    for document in documents().into_iter().chain(decisions()).map(|document| root().join(document))
    {
        let text = fs::read_to_string(&document).unwrap();
        // The text between `](` and `)`.
        for link in text.split("](").skip(1).filter_map(|link| link.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                document.clone()
            } else {
                document.with_file_name("").join(path)
            };
            let has_heading = heading.is_empty()
                || fs::read_to_string(&target).unwrap_or_default().lines().any(|line| {
                    line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading
                });
            if !target.exists() || !has_heading {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_named_in_documents_exist() {
    const FOLDERS: [&str; 10] = [
        "src/",
        "tests/",
        "migrations-lua/",
        "web/",
        "docs/",
        "config/",
        "scripts/",
        "clients/",
        "bench/",
        "deploy/",
    ];
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in ["CONTRIBUTING.md", "ARCHITECTURE.md", "README.md", "docs/OPERATIONS.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for path in text.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder))
                && !path.contains(['*', ' ', '…']);
            count += usize::from(is_path);
            if is_path && !root().join(path).exists() {
                wrong.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty() && count > 80, "{count} {wrong:#?}");
}
