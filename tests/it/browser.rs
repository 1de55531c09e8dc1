//! Tests in a real browser, which use this build of the service.

use std::{fs, path::Path, process::Command};

const FOLDER: &str = "tests/browser";

#[test]
fn a_real_browser_is_served() {
    passes(&mut tests_of(|file| !file.starts_with("dashboard")), FOLDER);
}

#[test]
fn the_dashboard_works_in_a_real_browser() {
    passes(&mut tests_of(|file| file.starts_with("dashboard")), FOLDER);
}

/// Runs the test files one after another: each starts its own browser.
fn tests_of(is_wanted: impl Fn(&str) -> bool) -> Command {
    let mut files: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".test.mjs") && is_wanted(name))
        .collect();
    files.sort();
    let mut command = Command::new("node");
    command.args(["--test", "--test-concurrency=1", "--test-reporter=tap"]).args(files);
    command
}

/// The client's types are current, it compiles, and it works in Node and in Chromium.
#[test]
fn the_typescript_client_passes_its_tests() {
    passes(Command::new("npm").args(["run", "--silent", "test"]), "clients/typescript");
}

/// Runs Node's tests in `dir` and fails unless at least one test ran and all passed.
#[track_caller]
fn passes(command: &mut Command, dir: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = command
        .current_dir(root.join(dir))
        .env("I2M_BINARY", env!("CARGO_BIN_EXE_image2model-gateway"))
        .output()
        .expect("make test has set up node");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Node also succeeds without a single test.
    assert!(said.contains("\n# fail 0\n") && !said.contains("\n# pass 0\n"), "{said}");
}
