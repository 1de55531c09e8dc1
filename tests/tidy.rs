//! Rules about source text: who may import whom, how large a file may be, what every file begins with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which of the crate's modules each module may name. A new edge is a decision: change it here, in the same
/// commit, so that a reader of the change sees it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &["app", "config", "progress"]),
    (
        "cli",
        &["app", "auth", "config", "demo", "offline", "openapi", "router", "telemetry", "traces"],
    ),
    ("offline", &["config", "error", "locks", "maintenance", "redis", "schema", "tasks"]),
    (
        "app",
        &[
            "auth",
            "cache",
            "celery",
            "config",
            "counters",
            "health",
            "http",
            "jobs",
            "locks",
            "models",
            "maintenance",
            "progress",
            "rate_limit",
            "redis",
            "router",
            "schema",
            "state",
            "tasks",
            "webhooks",
            "workers",
        ],
    ),
    (
        "router",
        &[
            "auth",
            "cache",
            "config",
            "counters",
            "health",
            "http",
            "jobs",
            "metrics",
            "openapi",
            "locks",
            "models",
            "maintenance",
            "progress",
            "rate_limit",
            "state",
            "traces",
            "web",
            "workers",
        ],
    ),
    (
        "state",
        &[
            "auth",
            "cache",
            "counters",
            "health",
            "jobs",
            "locks",
            "metrics",
            "models",
            "progress",
            "rate_limit",
            "webhooks",
            "maintenance",
            "schema",
            "workers",
        ],
    ),
    (
        "config",
        &[
            "auth",
            "cache",
            "celery",
            "counters",
            "health",
            "http",
            "jobs",
            "locks",
            "models",
            "maintenance",
            "progress",
            "rate_limit",
            "redis",
            "router",
            "telemetry",
            "traces",
            "webhooks",
        ],
    ),
    ("demo", &["ids", "web"]),
    ("openapi", &["config", "http"]),
    ("web", &["config", "http", "ids", "state"]),
    ("health", &["auth", "config", "error", "http", "redis", "schema", "state"]),
    (
        "counters",
        &[
            "auth", "config", "error", "http", "ids", "metrics", "redis", "state", "tasks",
            "workers",
        ],
    ),
    (
        "maintenance",
        &["auth", "config", "error", "http", "ids", "locks", "redis", "schema", "state", "tasks"],
    ),
    ("schema", &["error", "ids", "locks", "redis", "tasks"]),
    (
        "workers",
        &[
            "auth", "celery", "error", "http", "ids", "jobs", "locks", "progress", "redis",
            "state", "tasks",
        ],
    ),
    ("models", &["auth", "cache", "config", "error", "http", "ids", "redis", "state"]),
    ("cache", &["auth", "config", "error", "http", "ids", "metrics", "redis", "state", "tasks"]),
    ("locks", &["auth", "config", "error", "http", "ids", "metrics", "redis", "state", "tasks"]),
    (
        "rate_limit",
        &["auth", "config", "error", "http", "ids", "metrics", "progress", "redis", "state"],
    ),
    (
        "progress",
        &["auth", "config", "error", "http", "ids", "jobs", "metrics", "redis", "state", "tasks"],
    ),
    (
        "jobs",
        &[
            "auth", "celery", "config", "error", "http", "ids", "metrics", "redis", "state",
            "tasks", "traces", "webhooks",
        ],
    ),
    ("webhooks", &["config", "error", "ids", "metrics", "redis", "tasks"]),
    ("celery", &["config", "error", "ids", "redis", "tasks"]),
    ("auth", &["config", "error", "http", "ids", "redis", "state", "tasks"]),
    ("redis", &["config", "error", "ids", "metrics", "tasks", "traces"]),
    ("metrics", &["http"]),
    ("http", &["config", "error", "ids", "tasks"]),
    ("telemetry", &["traces"]),
    ("traces", &["config"]),
    ("tasks", &[]),
    ("error", &["ids"]),
    ("ids", &["error"]),
];

/// Who may name `fred`: what speaks to Redis.
const FRED: &[&str] = &[
    "redis/",
    "error.rs",
    "store.rs",
    "auth/ticket.rs",
    "celery/queues.rs",
    "health/slow.rs",
    "jobs/list.rs",
    "jobs/store/",
    "jobs/status_cache.rs",
];
/// Who may name `axum`: what speaks HTTP.
const AXUM: &[&str] = &[
    "http/",
    "router.rs",
    "state.rs",
    "app.rs",
    "routes.rs",
    "layer.rs",
    "metrics/requests.rs",
    "extract.rs",
    "progress/stream.rs",
    "progress/follow.rs",
    "jobs/status_cache.rs",
    "jobs/download.rs",
    "jobs/tickets.rs",
    "web.rs",
    "traces.rs",
    "openapi/",
];
/// Who may name a route by hand: all others write `routes!`, and so their routes are in the API document.
const UNDOCUMENTED: &[&str] = &["web.rs", "openapi/routes.rs"];
const MAX_LINES: usize = 400;

fn sources(dir: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A path below `src`, with slashes.
fn name_of(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/")
}

/// The lines of a file before its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|it| !it.starts_with("#[cfg(test)]"))
        .filter(|it| !it.trim_start().starts_with("//"))
}

fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let text: String = code(text).collect::<Vec<_>>().join("\n");
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // The first level of a braced list.
            let mut depth = 0;
            let mut word = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => drop(found.insert(std::mem::take(&mut word))),
                    _ if depth == 0 => word.push(character),
                    _ => (),
                }
            }
            found.insert(word);
        } else {
            found.insert(
                rest.split(|it: char| !it.is_alphanumeric() && it != '_')
                    .next()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    let first = |it: &String| it.trim().split("::").next().unwrap().to_owned();
    found.iter().map(first).filter(|it| it.starts_with(|it: char| it.is_lowercase())).collect()
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let name = name_of(&path);
        if path.extension().is_none_or(|it| it != "rs") {
            continue;
        }
        let module = name.split(['/', '.']).next().unwrap();
        let allowed = MAY_IMPORT.iter().find(|it| it.0 == module);
        let allowed = allowed.unwrap_or_else(|| panic!("{module} has no line in MAY_IMPORT")).1;
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{name} names {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_these_speak_to_redis_and_http() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let name = name_of(&path);
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (library, allowed) in [("fred::", FRED), ("axum::", AXUM)] {
            let may = allowed.iter().any(|it| name.starts_with(it) || name.ends_with(it));
            if !may && code(&text).any(|it| it.contains(library)) {
                wrong.push(format!("{name} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_route_is_in_the_api_document() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let name = name_of(&path);
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !UNDOCUMENTED.contains(&name.as_str()) && code(&text).any(|it| it.contains(".route(")) {
            wrong.push(format!("{name} makes a route without routes!"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    let files = ["src", "tests", "migrations-lua"].into_iter().flat_map(sources);
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let (header, limit) = match path.extension().and_then(|it| it.to_str()) {
            Some("rs") => ("//! ", MAX_LINES),
            Some("lua") => ("-- ", MAX_LINES),
            _ => continue,
        };
        if !text.starts_with(header) {
            wrong.push(format!("{} does not begin with {header:?}", path.display()));
        }
        if text.lines().count() > limit {
            wrong.push(format!("{} has {} lines", path.display(), text.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_drawer_for_odds_and_ends() {
    const VAGUE: [&str; 7] = ["utils", "util", "helpers", "common", "types", "prelude", "misc"];
    for path in sources("src") {
        let name = name_of(&path);
        assert!(
            !name.split(['/', '.']).any(|it| VAGUE.contains(&it)),
            "{name} says nothing of what is in it"
        );
    }
}

/// Whether a file of tests has one of this name, in any of the languages that tests are written in.
fn has_test(path: &str, name: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(path).unwrap_or_default();
    [format!("fn {name}("), format!("def {name}("), format!("test(\"{name}\"")]
        .iter()
        .any(|it| text.contains(it))
}

#[test]
fn each_defect_of_the_seed_has_its_test() {
    const N_DEFECTS: usize = 65;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEED-DEFECTS.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|it| it.starts_with("| ") && it.as_bytes()[2].is_ascii_digit())
        .map(|it| it.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), N_DEFECTS);
    let mut wrong = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        assert_eq!((row.len(), row[0].parse()), (3, Ok(place + 1)), "{row:?}");
        // Every other piece stands between backticks.
        let tests: Vec<_> =
            row[2].split('`').skip(1).step_by(2).filter_map(|it| it.split_once("::")).collect();
        wrong.extend(
            tests.iter().filter(|it| !has_test(it.0, it.1)).map(|it| format!("{}: {it:?}", row[0])),
        );
        if tests.is_empty() && !row[2].starts_with("does not apply: ") {
            wrong.push(format!("{}: nothing shows it", row[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
