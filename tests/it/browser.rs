//! Tests in a real browser, which use this build of the service.

use std::{path::Path, process::Command};

#[test]
fn a_real_browser_is_served() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("node")
        // One file after the other: each has a browser of its own.
        .args(["--test", "--test-concurrency=1", "--test-reporter=tap"])
        .current_dir(root.join("tests/browser"))
        .env("I2M_BINARY", env!("CARGO_BIN_EXE_image2model-gateway"))
        .output()
        .expect("make test has set up node");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Node is content without a single test, too.
    assert!(said.contains("\n# fail 0\n") && !said.contains("\n# pass 0\n"), "{said}");
}
