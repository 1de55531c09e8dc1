//! Rules about the source: modules depend in one direction, only some of them use Redis and HTTP, and files are small.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod module_graph;
mod source_files;

use std::{fs, path::Path};

use crate::{
    module_graph::{ModuleGraph, without_tests_and_comments},
    source_files::files_below,
};

/// The modules of `src/` from top to bottom. A module may import modules of its own layer and of lower ones.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["app", "demo"],
    &["api"],
    &["config"],
    &[
        "auth",
        "cache",
        "celery",
        "cleanup",
        "counters",
        "health",
        "jobs",
        "locks",
        "migrations",
        "models",
        "progress",
        "rate_limit",
        "sse",
        "webhooks",
        "workers",
    ],
    &["domain"],
    &["store"],
    &["redis", "http"],
    &["error", "ids", "observability", "serde_integer", "settings", "tasks"],
];

/// The modules that may name the Redis client.
const FRED: &[&str] = &["redis/", "store/", "error.rs"];
/// The modules that may name the HTTP framework.
const AXUM: &[&str] = &["api/"];
/// The modules that may add a route by hand. All others use `routes!`, which also adds it to the API document.
const UNDOCUMENTED: &[&str] = &["api/dashboard.rs", "api/openapi/"];
const MAX_LINES: usize = 400;

/// The Rust files of `src/`: their paths below it, and their code without comments and tests.
fn modules() -> impl Iterator<Item = (String, String)> {
    files_below("src", &["rs"]).into_iter().map(|file| {
        let path = file.path.trim_start_matches("src/").to_owned();
        (path, without_tests_and_comments(&file.text))
    })
}

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

#[test]
fn module_dependencies_have_no_cycle() {
    // Cargo allows no cycle of crates.
    let mut crates = vec!["src".to_owned()];
    let members = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates"));
    crates.extend(
        members
            .into_iter()
            .flatten()
            .map(|member| format!("crates/{}/src", member.unwrap().file_name().to_str().unwrap())),
    );
    for folder in crates {
        let graph = ModuleGraph::new(&folder, &files_below(&folder, &["rs"]));
        let cycle = graph.cycle().unwrap_or_default();
        let cycle: Vec<_> = cycle
            .iter()
            .map(|import| {
                format!("{} imports {}: {}", import.importer, import.imported, import.location)
            })
            .collect();
        assert!(cycle.is_empty(), "the modules of {folder} form a cycle:\n{}", cycle.join("\n"));
    }
}

#[test]
fn modules_import_only_their_own_and_lower_layers() {
    let graph = ModuleGraph::new("src", &files_below("src", &["rs"]));
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let unknown: Vec<_> = graph.modules.iter().filter(|module| layer(module).is_none()).collect();
    assert!(unknown.is_empty(), "modules without a layer: {unknown:?}");
    let upward: Vec<_> = graph
        .imports()
        .filter(|import| layer(&import.imported) < layer(&import.importer))
        .map(|import| {
            format!("{} imports {}: {}", import.importer, import.imported, import.location)
        })
        .collect();
    assert!(upward.is_empty(), "imports from a higher layer:\n{}", upward.join("\n"));
}

#[test]
fn modules_are_not_imported_through_reexports_of_the_root() {
    // `crate::Config` would hide an import of `config` from the two tests above.
    let graph = ModuleGraph::new("src", &files_below("src", &["rs"]));
    assert!(graph.root_items.is_empty(), "{:#?}", graph.root_items);
}

#[test]
fn only_io_modules_use_fred_and_axum() {
    let mut wrong = Vec::new();
    for (path, code) in modules() {
        for (library, allowed) in [("fred", FRED), ("axum", AXUM), ("utoipa_axum", AXUM)] {
            let is_used = [format!("{library}::"), format!("use {library};")]
                .iter()
                .any(|name| code.contains(name));
            if is_used && !starts_with_any(&path, allowed) {
                wrong.push(format!("{path} uses {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_route_is_in_the_api_document() {
    let mut wrong = Vec::new();
    for (path, code) in modules() {
        let is_http = starts_with_any(&path, AXUM);
        if is_http && code.contains(".route(") && !starts_with_any(&path, UNDOCUMENTED) {
            wrong.push(format!("{path} adds a route without routes!"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_have_a_header_and_are_small() {
    let mut wrong = Vec::new();
    for (extension, header) in [("rs", "//! "), ("lua", "-- ")] {
        let folders = ["src", "crates", "tests", "migrations-lua"].into_iter();
        for file in folders.flat_map(|folder| files_below(folder, &[extension])) {
            if !file.text.starts_with(header) {
                wrong.push(format!("{} does not begin with {header:?}", file.path));
            }
            let line_count = file.text.lines().count();
            if line_count > MAX_LINES {
                wrong.push(format!("{} has {line_count} lines", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_catch_all_modules() {
    const VAGUE: [&str; 7] = ["utils", "util", "helpers", "common", "types", "prelude", "misc"];
    for (path, _) in modules() {
        let vague = path.split(['/', '.']).find(|name| VAGUE.contains(name));
        assert_eq!(vague, None, "the name of {path} does not say what the module contains");
    }
}

/// Whether a test file contains a test with this name, in any of the languages that tests are written in.
fn has_test(path: &str, name: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(path).unwrap_or_default();
    [format!("fn {name}("), format!("def {name}("), format!("test(\"{name}\"")]
        .iter()
        .any(|definition| text.contains(definition))
}

#[test]
fn each_defect_of_the_seed_has_its_test() {
    const DEFECT_COUNT: usize = 65;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEED-DEFECTS.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), DEFECT_COUNT);
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((row.len(), row[0].parse()), (3, Ok(index + 1)), "{row:?}");
        // Every second part is between backticks.
        let tests: Vec<_> =
            row[2].split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
        wrong.extend(
            tests
                .iter()
                .filter(|(path, name)| !has_test(path, name))
                .map(|test| format!("{}: {test:?}", row[0])),
        );
        if tests.is_empty() && !row[2].starts_with("does not apply: ") {
            wrong.push(format!("{}: no test is named", row[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
