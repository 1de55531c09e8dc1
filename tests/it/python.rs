//! Python tests of this build of the service.

use std::{path::Path, process::Command};

#[test]
fn the_python_package_passes_its_tests() {
    pytest("clients/python-worker", &[]);
}

#[test]
fn the_python_client_passes_its_tests() {
    pytest("clients/python-client", &[]);
}

#[test]
fn the_seeds_classes_and_the_service_read_each_other() {
    pytest(".", &["tests/python", "--ignore=tests/python/test_openapi.py"]);
}

#[test]
fn schemathesis_finds_nothing() {
    pytest(".", &["tests/python/test_openapi.py"]);
}

/// Runs pytest in `dir` and fails unless at least one test ran and all passed.
#[track_caller]
fn pytest(dir: &str, arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join(".cache/venv/bin/python"))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .args(arguments)
        .current_dir(root.join(dir))
        .env("I2M_BINARY", env!("CARGO_BIN_EXE_image2model-gateway"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("make test has set up .cache/venv");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" passed"), "{said}");
}
