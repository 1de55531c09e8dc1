//! The command line: its help, and the exit codes that scripts rely on.

use std::{
    io::Read as _,
    net::TcpListener,
    process::{Command, Stdio},
};

use rstest::rstest;

use crate::harness::{Caller, GatewayProcess, TestApp, TestRedis};

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/demo-pictures");

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = GatewayProcess::output(dir.path(), arguments, environment);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[rstest]
#[case::help(&["--help"], &[], 0)]
#[case::version(&["--version"], &[], 0)]
#[case::good_settings(&["check-config"], &[], 0)]
#[case::a_port_that_is_taken(&["serve"], &[("I2M__REDIS__URL", "redis://127.0.0.1:1")], 1)]
#[case::an_unknown_command(&["sevre"], &[], 2)]
#[case::an_unknown_option(&["health", "--uri", "x"], &[], 2)]
#[case::a_bad_setting(&["check-config"], &[("I2M__REDIS__POOL_SIZE", "abc")], 3)]
#[case::a_bad_setting_elsewhere(&["routes"], &[("I2M__NOPE", "x")], 3)]
#[case::no_such_file(&["--config", "nowhere.toml", "serve"], &[], 3)]
#[case::nobody_there(&["health", "--url", "http://127.0.0.1:1"], &[], 4)]
#[case::nobody_of_that_name(&["health", "--url", "https://nowhere.invalid"], &[], 4)]
#[case::no_redis_for_a_cleanup(&["cleanup"], &[("I2M__REDIS__URL", "redis://127.0.0.1:1")], 1)]
#[case::no_redis_for_keys(&["keys", "list"], &[("I2M__REDIS__URL", "redis://127.0.0.1:1")], 1)]
#[case::no_redis_for_changes(&["migrate", "--status"], &[("I2M__REDIS__URL", "redis://127.0.0.1:1")], 1)]
#[case::no_such_role(&["keys", "create", "x", "--role", "king"], &[], 2)]
#[case::nobody_there_for_a_demo(&["demo", "--folder", PICTURES, "--url", "http://127.0.0.1:1"], &[], 4)]
fn each_failure_has_its_exit_code(
    #[case] arguments: &[&str],
    #[case] environment: &[(&str, &str)],
    #[case] code: i32,
) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let environment = [environment, &[("I2M__SERVER__LISTEN", listen.as_str())]].concat();
    let (got, out, err) = run(arguments, &environment);
    assert_eq!(got, Some(code), "{out}{err}");
    assert_eq!(err.is_empty(), code == 0, "{err}");
}

#[tokio::test]
async fn health_reports_readiness() {
    let mut app = TestApp::start().await;
    let base = app.base.clone();
    let ask = move |url: String, wait: &'static str| async move {
        tokio::task::spawn_blocking(move || run(&["health", "--url", &url, "--wait", wait], &[]))
            .await
            .unwrap()
    };
    let (code, out, _) = ask(base.clone(), "0").await;
    assert_eq!(code, Some(0));
    assert!(out.contains("\"name\":\"redis:jobs\",\"ok\":true"), "{out}");

    app.redis.kill();
    crate::harness::wait_until("the service is not ready", async || {
        app.get(Caller::Anonymous, "/readyz").await.status == 503
    })
    .await;
    let (code, _, err) = ask(base, "0").await;
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains("503"), "{err}");
}

#[test]
fn help_contains_examples_for_every_command() {
    let (_, help, _) = run(&["--help"], &[]);
    for part in ["Exit codes", "I2M__REDIS__URL", "Try it"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    // A test of src/cli checks the examples themselves.
    let mut pages = vec![(Vec::new(), help)];
    let mut page_count = 0;
    while let Some((path, help)) = pages.pop() {
        page_count += 1;
        let says = |part| help.contains(part);
        assert!(says("Examples:") || says("Try it:"), "{path:?}: {help}");
        let commands = help.split("Commands:\n").nth(1).into_iter().flat_map(str::lines);
        let names = commands.map_while(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !name.is_empty() && *name != "help") {
            let path = [&path[..], &[name.to_owned()]].concat();
            let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
            let (code, help, _) = run(&arguments, &[]);
            assert_eq!(code, Some(0), "{help}");
            pages.push((path.clone(), help));
        }
    }
    assert_eq!(page_count, 15);
}

#[test]
fn health_connects_to_a_tls_listener() {
    let redis = TestRedis::start();
    let path = |name: &str| redis.dir().join(name).display().to_string();
    let named = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), named.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), named.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__SERVER__TLS_CERT_FILE", cert.as_str()),
        ("I2M__SERVER__TLS_KEY_FILE", key.as_str()),
    ];
    let service = GatewayProcess::start(redis.dir(), &environment);
    let port = service.base.rsplit_once(':').unwrap().1;
    let listen = format!("0.0.0.0:{port}");

    // The health check of a container connects to its own address, for which the certificate is not valid.
    let own = [&environment[..], &[("I2M__SERVER__LISTEN", listen.as_str())]].concat();
    let (code, out, err) = run(&["health", "--wait", "10"], &own);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("\"name\":\"redis:jobs\",\"ok\":true"), "{out}");

    // By name the certificate must be valid and trusted.
    let by_name = format!("https://localhost:{port}");
    let trusting = [("SSL_CERT_FILE", cert.as_str())];
    assert_eq!(run(&["health", "--url", &by_name], &trusting).0, Some(0));
    let (code, _, err) = run(&["health", "--url", &by_name], &[]);
    assert_eq!(code, Some(4), "{err}");
    let by_address = format!("https://127.0.0.1:{port}");
    let (code, _, err) = run(&["health", "--url", &by_address], &trusting);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("certificate"), "{err}");
    // The port does not accept plain HTTP.
    assert_eq!(run(&["health", "--url", &by_name.replace("https", "http")], &[]).0, Some(4));
}

#[test]
fn shells_complete_its_arguments() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, err) = run(&["completions", shell], &[]);
        assert_eq!(code, Some(0), "{err}");
        assert!(script.contains("check-config") && script.contains("wait"), "{shell}: {script}");
    }
    let (_, script, _) = run(&["completions", "bash"], &[]);
    let ask = "COMP_WORDS=(image2model-gateway che); COMP_CWORD=1; _image2model__gateway image2model-gateway che image2model-gateway; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "check-config");
}

#[test]
fn a_closed_output_pipe_is_not_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = GatewayProcess::command(dir.path(), &[])
        .args(["routes", "--openapi"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
