//! What documents link to and name is there.

use std::fs;

use super::{documents, root};

/// The decisions, which have links and no examples.
fn decisions() -> Vec<String> {
    let pages = fs::read_dir(root().join("docs/adr")).unwrap();
    pages.map(|entry| format!("docs/adr/{}", entry.unwrap().file_name().display())).collect()
}

/// The heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|character| character.is_alphanumeric() || " -_".contains(*character))
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents().into_iter().chain(decisions()).map(|document| root().join(document))
    {
        let text = fs::read_to_string(&document).unwrap();
        // What stands between `](` and `)`.
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
fn files_that_documents_name_are_there() {
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
    let mut n_found = 0;
    for document in ["CONTRIBUTING.md", "ARCHITECTURE.md", "README.md", "docs/OPERATIONS.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for path in text.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder))
                && !path.contains(['*', ' ', '…']);
            n_found += usize::from(is_path);
            if is_path && !root().join(path).exists() {
                wrong.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty() && n_found > 80, "{n_found} {wrong:#?}");
}
