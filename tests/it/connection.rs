//! Connections to Redis with passwords, ACL users and TLS.

use std::net::TcpListener;

use image2model_gateway::Config;
use rstest::rstest;

use crate::harness::{TestApp, TestRedis, path_of};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn serve(redis: TestRedis, settings: &[(&str, &str)]) -> TestApp {
    let mut environment = vec![("I2M__SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
    environment
        .extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let app = TestApp::start_on(redis, Config::load(None, environment).unwrap()).await;
    app.wait_until_ready().await;
    let job = app.create_job(1).await;
    app.get(crate::harness::Caller::Alice, path_of(&job)).await.ok(200);
    app
}

#[rstest]
#[case::password_in_url("redis://:sesame@", &[])]
#[case::password_beside_url("redis://", &[("I2M__REDIS__PASSWORD", "sesame")])]
#[case::acl_user_in_url("redis://gateway:open@", &[])]
#[case::acl_user_beside_url("redis://", &[("I2M__REDIS__USERNAME", "gateway"), ("I2M__REDIS__PASSWORD", "open")])]
#[tokio::test]
async fn a_redis_with_passwords_is_reached(
    #[case] prefix: &str,
    #[case] settings: &[(&str, &str)],
) {
    let port = free_port();
    // The minimal permissions of the service: no admin commands, and no dangerous ones except INFO.
    let user = "gateway on >open ~* &* +@all -@admin -@dangerous +info";
    let (port_text, mut arguments) = (port.to_string(), vec!["--requirepass", "sesame", "--user"]);
    arguments.extend(user.split(' '));
    arguments.extend(["--bind", "127.0.0.1", "--port", &port_text]);
    let redis = TestRedis::start_with(&arguments);
    let url = format!("{prefix}127.0.0.1:{port}");
    let mut settings = settings.to_vec();
    settings.push(("I2M__REDIS__URL", &url));
    serve(redis, &settings).await;
}

#[tokio::test]
async fn tls_certificates_are_verified_with_the_configured_authority() {
    let port = free_port();
    let redis = TestRedis::prepare(&[]);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| redis.dir().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), certificate.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let (port_text, cert, key) = (port.to_string(), path("cert.pem"), path("key.pem"));
    let mut redis = redis.with(&[
        "--tls-port",
        &port_text,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
        "--tls-ca-cert-file",
        &cert,
    ]);
    redis.start_again();
    let url = format!("rediss://localhost:{port}");
    let app = serve(redis, &[("I2M__REDIS__URL", &url), ("I2M__REDIS__TLS_CA_FILE", &cert)]).await;

    // Without the authority the service does not trust the same Redis and does not use it.
    let environment = [("I2M__SERVER__LISTEN", "127.0.0.1:0"), ("I2M__REDIS__URL", url.as_str())];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, environment).unwrap();
    let other = TestApp::start_on(TestRedis::prepare(&[]), config).await;
    let new = serde_json::json!({"files": [{"filename": "a.png"}]});
    other
        .post(crate::harness::Caller::Alice, "/api/v1/jobs", &new)
        .await
        .problem(503, "REDIS_UNAVAILABLE");
    drop(app);
}
