//! The Python package's own tests, which use this build of the service.

use std::{path::Path, process::Command};

#[test]
fn the_python_package_passes_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join(".cache/venv/bin/python"))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .current_dir(root.join("clients/python"))
        .env("I2M_BINARY", env!("CARGO_BIN_EXE_image2model-gateway"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("make test has set up .cache/venv");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" passed"), "{said}");
}
