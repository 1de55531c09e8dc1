//! Every script declares whether it is idempotent, and docs/REDIS.md explains why.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod source_files;

use std::{collections::BTreeMap, fs, path::Path};

use crate::source_files::files_below;

/// `repeatable` is the old name.
const DECLARATIONS: [&str; 2] = [".idempotent()", ".repeatable()"];
/// Headers of the table in docs/REDIS.md, with the words for "idempotent" and "not idempotent". The second is the old one.
const HEADERS: [(&str, &str, &str); 2] = [
    ("| script | idempotent | why |", "yes", "no"),
    ("| script | run twice | why |", "is once", "differs"),
];
/// The folders of data migrations, new and old. One script runs all of them, so they are declared together.
const MIGRATIONS: [&str; 2] = ["migrations/", "schema/"];

fn is_migration(script: &str) -> bool {
    MIGRATIONS.iter().any(|folder| script.starts_with(folder))
}

/// Whether each script is declared idempotent where it is compiled in, by its name, such as `jobs/create`.
fn declared() -> BTreeMap<String, bool> {
    let mut declared = BTreeMap::new();
    for file in files_below("src", &["rs"]) {
        for include in file.text.split("../migrations-lua/").skip(1) {
            let (name, rest) = include.split_once(".lua\"").unwrap();
            if name.starts_with("shared/") {
                continue;
            }
            let statement = rest.split_once(';').map_or(rest, |(statement, _)| statement);
            let is_idempotent = DECLARATIONS.iter().any(|call| statement.contains(call));
            let former = declared.insert(name.to_owned(), is_idempotent);
            assert_eq!(former, None, "{name} is compiled in twice");
        }
    }
    declared
}

/// The rows of the table in docs/REDIS.md.
fn documented() -> BTreeMap<String, bool> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/REDIS.md");
    let text = fs::read_to_string(page).unwrap();
    let find_table = |(header, yes, no)| Some((text.split_once(header)?.1, yes, no));
    let (table, yes, no) = HEADERS.into_iter().find_map(find_table).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!([yes, no].contains(&cells[2]), "{row}");
        for name in cells[1].split(' ') {
            let name = name.trim_matches('`').to_owned();
            let former = documented.insert(name, cells[2] == yes);
            assert!(former.is_none() || yes == "is once", "a script is listed twice: {row}");
        }
    }
    documented
}

#[test]
fn the_table_of_idempotent_scripts_is_complete_and_correct() {
    let mut declared = declared();
    for file in files_below("migrations-lua", &["lua"]) {
        let name = file.path.trim_start_matches("migrations-lua/").trim_end_matches(".lua");
        let is_compiled_in =
            declared.contains_key(name) || name.starts_with("shared/") || is_migration(name);
        assert!(is_compiled_in, "no source file includes {}", file.path);
    }
    declared.retain(|name, _| !is_migration(name));
    let mut documented = documented();
    let migrations = MIGRATIONS.map(|folder| documented.remove(&format!("{folder}*")));
    assert!(migrations.contains(&Some(true)), "the table has no row of the migrations");
    assert_eq!(declared, documented);
}
