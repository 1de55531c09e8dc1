//! The subject that a request is counted for: keys with their own limits, workers, proxies and networks.

use reqwest::Method;
use serde_json::json;

use crate::{
    harness::{ApiResponse, Caller, TestApp, path_of},
    rate_limit::{ALICE, BOB, LIST, by_key, limited, number, policy},
};

#[tokio::test]
async fn callers_can_have_other_limits_or_be_exempt() {
    let allow = format!(
        "\n[rate_limit]\nexempt = [{BOB:?}]\noverrides = [{{ sha256 = {ALICE:?}, policy = \"key\", limit = 3 }}]\n"
    );
    let app = limited(&[], &(allow + &by_key("1", "1h"))).await;
    let job = app.create_job(1).await;
    for _ in 0..3 {
        let response = app.get(Caller::Bob, LIST).await;
        assert_eq!((response.status, response.header("ratelimit-policy")), (200, ""));
        let response = app.report(&job, 0, &json!({"progress": 5})).await;
        assert_eq!((response.status, response.header("ratelimit-policy")), (200, ""));
        let response = app.get(Caller::Anonymous, "/readyz").await;
        assert_eq!((response.status, response.header("ratelimit-policy")), (200, ""));
        app.get(Caller::Worker, path_of(&job)).await.ok(200);
    }
    for status in [200, 200, 429] {
        let response = app.get(Caller::Alice, LIST).await;
        assert_eq!((response.status, response.header("x-ratelimit-limit")), (status, "3"));
    }
    assert_eq!(app.redis.keys(3).await, [format!("rl:key:{ALICE}")]);
}

#[tokio::test]
async fn shadow_mode_counts_and_rejects_no_request() {
    let app = limited(&[("rate_limit.dry_run", "true")], &by_key("2", "1h")).await;
    for _ in 0..5 {
        let response = app.get(Caller::Alice, LIST).await;
        assert_eq!((response.status, response.header("ratelimit-policy")), (200, ""));
    }
    assert_eq!(number(&app.redis, &["GET", &format!("rl:key:{ALICE}")]).await, 2);
    let off = limited(&[("rate_limit.enabled", "false")], &by_key("1", "1h")).await;
    for _ in 0..3 {
        off.get(Caller::Alice, LIST).await.ok(200);
    }
    assert_eq!(off.redis.keys(3).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_trusted_proxies_set_the_client_address() {
    let policies = policy("ip", &[("scope", "ip"), ("limit", "2"), ("window", "1h")]);
    let get = async |app: &TestApp, said: &[&str]| {
        let mut request = app.request(Caller::Alice, Method::GET, LIST);
        for line in said {
            request = request.header("x-forwarded-for", *line);
        }
        ApiResponse::send(request.header("forwarded", "for=198.51.100.1")).await.status
    };
    let direct = limited(&[], &policies).await;
    let statuses = [
        get(&direct, &["1.1.1.1"]).await,
        get(&direct, &[]).await,
        get(&direct, &["2.2.2.2"]).await,
    ];
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(direct.redis.keys(3).await, ["rl:ip:127.0.0.1"]);

    let proxied =
        limited(&[("rate_limit.trusted_proxies", "127.0.0.0/8,10.0.0.7")], &policies).await;
    for (said, key) in [
        (&["9.9.9.9, 203.0.113.7, 10.0.0.7"][..], "rl:ip:203.0.113.7"),
        (&["10.0.0.8"], "rl:ip:10.0.0.8"),
        (&["2001:db8::5", "10.0.0.7"], "rl:ip:2001:db8::/64"),
        (&[], "rl:ip:127.0.0.1"),
    ] {
        assert_eq!(get(&proxied, said).await, 200);
        assert_eq!(number(&proxied.redis, &["GET", key]).await, 1, "{key}");
    }
    // Further addresses at the start of the header do not change the caller's address.
    let spoofed = [
        get(&proxied, &["1.2.3.4, 203.0.113.7"]).await,
        get(&proxied, &["4.3.2.1, 203.0.113.7"]).await,
    ];
    assert_eq!(spoofed, [200, 429]);
}

#[tokio::test]
async fn admins_see_the_busiest_callers_but_no_keys() {
    let fields =
        [("scope", "key"), ("routes", "[\"create_job\"]"), ("cost", "file"), ("limit", "30")];
    let files = policy("files", &[&fields[..], &[("window", "1h")]].concat());
    let app = limited(&[], &(by_key("5", "1h") + &files)).await;
    for status in [200, 200, 200, 200, 200, 429, 429] {
        assert_eq!(app.get(Caller::Bob, LIST).await.status, status);
    }
    app.create_job(7).await;
    app.get(Caller::Alice, LIST).await.ok(200);

    let path = "/api/v1/admin/rate-limits";
    // This request of Alice is counted like any other.
    app.get(Caller::Alice, path).await.problem(403, "INSUFFICIENT_PERMISSIONS");
    let report = app.get(Caller::Admin, path).await.ok(200);
    let [by_key, files] = &report["policies"].as_array().unwrap()[..] else { panic!("{report}") };
    let busy = |name: &str, hash: &str, admitted: u64, refused: u64| json!({"caller": name, "key_hash": &hash[..8], "admitted": admitted, "refused": refused, "uncertain": 0});
    assert_eq!(by_key["busiest"], json!([busy("bob", BOB, 5, 2), busy("alice", ALICE, 3, 0)]));
    assert_eq!(files["busiest"], json!([busy("alice", ALICE, 7, 0)]));
    assert_eq!((&files["cost"], &files["limit"]), (&json!("file"), &json!(30)));
    assert!(!report.to_string().contains(ALICE) && !report.to_string().contains("alice-key"));
}
