//! Settings: their sources, and the errors for invalid ones.

use std::path::Path;

use image2model_gateway::Config;
use rstest::rstest;

use crate::harness::{GatewayProcess, TestRedis};

#[rstest]
#[case::not_a_number("I2M__REDIS__POOL_SIZE", "abc", &["redis.pool_size", "abc", "integer"])]
#[case::out_of_range("I2M__REDIS__POOL_SIZE", "0", &["redis", "pool_size", "0", "between 1 and 64"])]
#[case::not_a_choice("I2M__AUTH__MODE", "closed", &["auth.mode", "closed", "`open` or `keys`"])]
#[case::not_a_duration("I2M__JOBS__TTL", "5 parsecs", &["jobs.ttl", "5 parsecs", "duration"])]
#[case::not_a_size("I2M__SERVER__BODY_LIMIT", "huge", &["server.body_limit"])]
#[case::not_an_address("I2M__SERVER__LISTEN", "8080", &["server.listen"])]
#[case::unknown("I2M__REDIS__HOST", "x", &["redis.host", "unknown field `host`", "`url`"])]
#[case::unknown_section("I2M__NOPE", "x", &["nope", "unknown field"])]
#[case::database_in_url("I2M__REDIS__URL", "redis://localhost/3", &["redis", "url", "0 to 4"])]
#[case::sentinels_missing("I2M__REDIS__MODE", "sentinel", &["redis", "sentinels", "sentinel-1:26379"])]
#[case::no_sentinel("I2M__REDIS__SENTINELS", "a:1,b", &["redis", "sentinels", "\"b\"", "host:port"])]
#[case::nodes_missing("I2M__REDIS__MODE", "cluster", &["redis", "nodes", "redis-1:6379"])]
#[case::no_node("I2M__REDIS__NODES", "a:1,b", &["redis", "nodes", "\"b\"", "host:port"])]
#[case::unknown_scheme("I2M__REDIS__URL", "http://localhost", &["redis", "url", "redis://"])]
#[case::open_in_production("I2M__ENVIRONMENT", "production", &["auth", "open", "keys"])]
#[case::ticket_shorter_than_job("I2M__AUTH__TICKET_TTL", "1h", &["auth", "ticket_ttl", "jobs.ttl"])]
#[case::keys_no_json("I2M__AUTH__KEYS", "[{", &["auth.keys"])]
#[case::key_without_hash("I2M__AUTH__KEYS", r#"[{"name":"a","sha256":"1","roles":["client"]}]"#, &["auth", "sha256 of \"a\""])]
#[case::certificate_without_key("I2M__SERVER__TLS_CERT", "x", &["server", "tls_cert and tls_key"])]
#[case::no_connections("I2M__SERVER__MAX_CONNECTIONS", "0", &["server", "max_connections"])]
#[case::missing_secret_file("I2M__REDIS__PASSWORD_FILE", "/nonexistent", &["I2M__REDIS__PASSWORD_FILE", "/nonexistent"])]
#[case::bad_filter("I2M__LOG__LEVEL", "a=b=c", &["log.level"])]
fn an_invalid_setting_stops_the_start(
    #[case] name: &str,
    #[case] value: &str,
    #[case] said: &[&str],
) {
    let dir = tempfile::tempdir().unwrap();
    let output = GatewayProcess::output(dir.path(), &[], &[(name, value)]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for part in said {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[rstest]
#[case::container("config/production.toml")]
#[case::kubernetes("deploy/kubernetes/gateway.toml")]
#[case::laptop("config/development.toml")]
fn the_shipped_settings_are_valid(#[case] file: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let arguments = ["--config", file.to_str().unwrap(), "--check-config"];
    let environment = [
        ("I2M__AUTH__TICKET_SECRETS", "0123456789abcdef0123456789abcdef"),
        ("I2M__REDIS__URL", if file.ends_with("production.toml") { "redis://redis" } else { "" }),
    ];
    let output = GatewayProcess::output(&std::env::temp_dir(), &arguments, &environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn later_sources_win_and_secrets_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.toml");
    std::fs::write(
        &file,
        "[jobs]\nttl = \"2h\"\nmax_files = 7\n[redis]\nurl = \"rediss://u:hunter2@h\"\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("password"), "123456\n").unwrap();
    let output = GatewayProcess::output(
        dir.path(),
        &["--config", "my.toml", "check-config"],
        &[
            ("I2M__JOBS__TTL", "3h"),
            ("I2M__REDIS__PASSWORD_FILE", "password"),
            ("I2M__CORS__ORIGINS", "https://a.example,https://b.example"),
            ("I2M__AUTH__TICKET_SECRETS", "0123456789abcdef,fedcba9876543210"),
        ],
    );
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    let shown: toml::Value = toml::from_str(&shown).unwrap();
    assert_eq!(shown["jobs"]["ttl"].as_str(), Some("3h"));
    assert_eq!(shown["jobs"]["max_files"].as_integer(), Some(7));
    assert_eq!(shown["redis"]["password"].as_str(), Some("********"));
    assert_eq!(shown["cors"]["origins"].as_array().unwrap().len(), 2);
    let text = shown.to_string();
    for secret in ["hunter2", "123456", "0123456789abcdef"] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
}

#[test]
fn debug_output_contains_no_secret() {
    let secrets = [
        ("I2M__REDIS__URL", "redis://u:hunter2@localhost"),
        ("I2M__REDIS__PASSWORD", "hunter3"),
        ("I2M__AUTH__TICKET_SECRETS", "0123456789abcdef,fedcba9876543210"),
        ("I2M__CELERY__BROKER_URL", "redis://:hunter4@localhost/0"),
        ("I2M__SERVER__TLS_CERT", "a certificate"),
        ("I2M__SERVER__TLS_KEY", "hunter5"),
    ];
    let environment = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let printed = format!("{:?}", Config::load(None, environment).unwrap());
    assert!(printed.contains("********"));
    for secret in ["hunter", "0123456789abcdef", "fedcba9876543210"] {
        assert!(!printed.contains(secret), "{secret} is in {printed}");
    }
}

#[test]
fn disabled_authentication_is_logged_at_every_start() {
    let redis = TestRedis::start();
    let service = GatewayProcess::start(redis.dir(), &redis.settings());
    assert!(service.log.lock().unwrap().contains("auth.mode is \\\"open\\\""));
}

#[rstest]
#[case("markdown", "docs/CONFIGURATION.md")]
#[case("defaults", "config/default.toml")]
#[case("tuning", "config/tuning.toml")]
fn the_reference_matches_the_code(#[case] format: &str, #[case] file: &str) {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["config-reference", "--format", format];
    let output = GatewayProcess::output(dir.path(), &arguments, &[]);
    let current = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let is_current = current == output.stdout;
    assert!(is_current, "run: image2model-gateway config-reference --format {format} > {file}");
}
