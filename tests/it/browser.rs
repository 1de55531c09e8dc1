//! Tests in a real browser, which use this build of the service.

use std::{path::Path, process::Command};

#[test]
fn a_real_browser_is_served() {
    // One file after the other: each has a browser of its own.
    let arguments = ["--test", "--test-concurrency=1", "--test-reporter=tap"];
    passes(Command::new("node").args(arguments), "tests/browser");
}

/// Its types are current, it compiles, and works in Node and in Chromium.
#[test]
fn the_typescript_client_passes_its_tests() {
    passes(Command::new("npm").args(["run", "--silent", "test"]), "clients/typescript");
}

/// Runs node's tests in `dir` and fails unless tests ran, and passed.
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
    // Node is content without a single test, too.
    assert!(said.contains("\n# fail 0\n") && !said.contains("\n# pass 0\n"), "{said}");
}
