//! Every script says whether it may be run twice, and docs/REDIS.md says why.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

/// Scripts by name, such as `jobs/create`, and whether each is declared repeatable where it is compiled in.
fn declared() -> BTreeMap<String, bool> {
    let mut declared = BTreeMap::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for place in text.split("../migrations-lua/").skip(1) {
            let (name, rest) = place.split_once(".lua\"").unwrap();
            if name.starts_with("shared/") {
                continue;
            }
            let statement = rest.split_once(';').map_or(rest, |it| it.0);
            let twice = declared.insert(name.to_owned(), statement.contains(".repeatable()"));
            assert_eq!(twice, None, "{name} is compiled in twice");
        }
    }
    declared
}

/// The rows of the table in docs/REDIS.md.
fn documented() -> BTreeMap<String, bool> {
    let text = fs::read_to_string(root().join("docs/REDIS.md")).unwrap();
    let (_, table) = text.split_once("| script | run twice | why |").unwrap();
    let rows = table.lines().skip(2).take_while(|it| it.starts_with('|'));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let is_repeatable = match cells[2] {
            "is once" => true,
            "differs" => false,
            other => panic!("{other:?} in {row}"),
        };
        for name in cells[1].split(' ') {
            documented.insert(name.trim_matches('`').to_owned(), is_repeatable);
        }
    }
    documented
}

#[test]
fn the_table_of_what_is_repeated_is_complete_and_true() {
    let folder = root().join("migrations-lua");
    let there: Vec<String> = files(&folder, "lua")
        .iter()
        .map(|it| it.strip_prefix(&folder).unwrap().with_extension("").display().to_string())
        .filter(|it| !it.starts_with("shared/") && !it.starts_with("migrations/"))
        .collect();
    let mut declared = declared();
    for name in &there {
        assert!(declared.contains_key(name), "{name} is compiled in nowhere");
    }
    // Changes of stored data are all run by one script, which is declared for all of them.
    declared.retain(|name, _| !name.starts_with("migrations/"));
    declared.insert("migrations/*".to_owned(), true);
    assert_eq!(declared, documented());
}
