//! Runs the image's entry point and health check without a container, with the settings of docker-compose.yml.

use std::{fs, path::Path};

use crate::harness::{GatewayProcess, SentinelSetup, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The arguments of an instruction of the Dockerfile in its exec form, without the program.
fn arguments(instruction: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).unwrap();
    let line = text.lines().map(str::trim).find(|line| line.starts_with(instruction)).unwrap();
    let words: Vec<String> = serde_json::from_str(&line[instruction.len()..]).unwrap();
    assert_eq!(words[0], "/usr/local/bin/image2model-gateway");
    // The source of the Dockerfile's `COPY`.
    let here = format!("{ROOT}/config");
    words[1..].iter().map(|word| word.replace("/etc/image2model-gateway", &here)).collect()
}

/// The environment of the gateway in docker-compose.yml.
fn environment() -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(ROOT).join("docker-compose.yml")).unwrap();
    let (gateway, _) = text.split_once("\n  worker:").unwrap();
    let pairs = gateway.lines().filter_map(|line| line.trim().split_once(": "));
    pairs
        .filter(|(name, _)| name.starts_with("I2M__"))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_is_healthy_while_it_serves() {
    let setup = SentinelSetup::start().await;
    let (addresses, dir) = (setup.addresses(), tempfile::tempdir().unwrap());
    let mut environment = environment();
    assert!(environment.len() > 5, "{environment:?}");
    for (name, value) in &mut environment {
        if name == "I2M__REDIS__SENTINELS" {
            value.clone_from(&addresses);
        }
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|variable| (variable.0.as_str(), variable.1.as_str())).collect();
    let entry = arguments("ENTRYPOINT ");
    let entry: Vec<&str> = entry.iter().map(String::as_str).collect();
    let mut service = GatewayProcess::start_with(dir.path(), &entry, &environment);

    // The container uses the port of the image; the test uses a free one.
    let listen = service.base.replace("http://", "");
    let environment = [&environment[..], &[("I2M__SERVER__LISTEN", &listen)]].concat();
    let check = arguments("CMD ");
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    let is_healthy = || GatewayProcess::output(dir.path(), &check, &environment).status.success();
    wait_until("the service is healthy", async || is_healthy()).await;
    let ready = reqwest::get(format!("{}/readyz", service.base)).await.unwrap();
    assert_eq!(ready.status(), 200);
    service.signal("TERM");
    assert!(service.wait().success());
    assert!(!is_healthy());
}
