//! Missing models, which only one request of all processes fetches from the origin at a time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    harness::{
        ApiResponse, Caller, FakeOrigin, GatewayProcess, TestApp, TestRedis, config, wait_until,
        write_certificate,
    },
    models::{KEY, MODEL, is, look, put, remove},
};

async fn with_origin(origin: &FakeOrigin, settings: &[(&str, &str)]) -> TestApp {
    let ours = [("models.origin", origin.url.as_str()), ("rate_limit.enabled", "false")];
    TestApp::start_with(&[&ours[..], settings].concat()).await
}

/// The sum of a metric's values on a page for Prometheus.
fn sum(page: &str, name: &str) -> f64 {
    let values = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    values.filter_map(|sample| sample.1.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_thousand_misses_at_three_processes_compute_once() {
    let (redis, origin) = (TestRedis::start(), FakeOrigin::start().await);
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__MODELS__ORIGIN", origin.url.as_str()),
        ("I2M__MODELS__ORIGIN_KEY", "secret"),
        ("I2M__RATE_LIMIT__ENABLED", "false"),
        ("I2M__REDIS__COMMAND_TIMEOUT", "10s"),
        ("I2M__CACHE__COMPUTE_TIMEOUT", "20s"),
        ("I2M__SERVER__REQUEST_TIMEOUT", "20s"),
    ];
    let services = [(); 3].map(|()| GatewayProcess::start(redis.dir(), &environment));
    let http = reqwest::Client::new();
    for service in &services {
        let url = format!("{}/readyz", service.base);
        wait_until("the service is ready", async || {
            http.get(&url).send().await.is_ok_and(|response| response.status() == 200)
        })
        .await;
    }
    origin.hold();
    let requests = (0..1000).map(|i| {
        let request = http.get(format!("{}{MODEL}", services[i % 3].base)).bearer_auth("k");
        async move {
            let response = ApiResponse::send(request).await;
            (response.status, response.header("x-cache").to_owned(), response.text)
        }
    });
    let let_go = async {
        // While the origin holds its response all requests miss; so far one process has called the origin.
        wait_until("all requests have missed and wait", async || {
            let mut waiting = 0.0;
            for service in &services {
                let page = http.get(format!("{}/metrics", service.base)).send().await.unwrap();
                let page = page.text().await.unwrap();
                // The request for the page counts itself.
                waiting += sum(&page, "i2m_http_requests_in_flight") - 1.0;
                waiting -= sum(&page, "i2m_redis_calls_in_flight");
            }
            let info: String = redis.run(4, &["INFO", "commandstats"]).await.convert().unwrap();
            let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
            let calls = calls.and_then(|calls| calls.split(',').next()?.parse::<u32>().ok());
            waiting >= 1000.0 && calls.is_some_and(|calls| calls >= 1000)
        })
        .await;
        assert_eq!(origin.request_count(), 1);
        origin.resume();
    };
    let (responses, ()) = tokio::join!(join_all(requests), let_go);
    let model = r#"{"path":"/models/chair-1","version":1,"key":"Bearer secret"}"#;
    for response in responses {
        assert_eq!(response, (200, "miss".to_owned(), model.to_owned()));
    }
    assert_eq!(origin.request_count(), 1);
    let claims: Vec<String> = redis.run(4, &["KEYS", "i2m:claim:*"]).await.convert().unwrap();
    assert_eq!(claims, Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_model_is_cached_as_missing() {
    let origin = FakeOrigin::start().await;
    origin.respond_with(404);
    let app = with_origin(&origin, &[("models.negative_ttl", "1s")]).await;
    assert_eq!(look(&app).await, is(404, "miss"));
    assert_eq!(look(&app).await, is(404, "negative"));
    assert_eq!(origin.request_count(), 1);
    // A model that a worker or another program stores is served at once.
    put(&app, MODEL, &json!({"data": 7})).await.ok(200);
    assert_eq!(look(&app).await, is(200, "hit"));
    remove(&app, MODEL).await.ok_status(204);
    assert_eq!(look(&app).await, is(404, "miss"));
    app.redis.run(4, &["SETEX", KEY, "50", "7"]).await;
    assert_eq!(look(&app).await, is(200, "hit"));
    app.redis.run(4, &["DEL", KEY]).await;
    assert_eq!(look(&app).await, is(404, "negative"));
    wait_until("the origin is called again", async || look(&app).await == is(404, "miss")).await;
}

#[tokio::test]
async fn a_stale_model_is_served_while_one_caller_refreshes_it() {
    let origin = FakeOrigin::start().await;
    let settings = [("models.ttl", "1s"), ("models.stale_for", "1m"), ("cache.early_refresh", "0")];
    let app = with_origin(&origin, &settings).await;
    assert_eq!(look(&app).await, is(200, "miss"));
    origin.hold();
    wait_until("the model is stale", async || look(&app).await == is(200, "stale")).await;
    let responses = join_all((0..50).map(|_| app.get(Caller::Alice, MODEL))).await;
    for response in &responses {
        assert_eq!((response.header("x-cache"), &response.json()["version"]), ("stale", &json!(1)));
    }
    wait_until("the origin is called", async || origin.request_count() == 2).await;
    origin.resume();
    wait_until("the model is fresh", async || look(&app).await == is(200, "hit")).await;
    assert_eq!(app.get(Caller::Alice, MODEL).await.json()["version"], 2);
    assert_eq!(origin.request_count(), 2);
}

#[tokio::test]
async fn a_model_is_refreshed_before_it_is_stale() {
    let origin = FakeOrigin::start().await;
    // With this factor about one of three reads refreshes the model.
    let app = with_origin(&origin, &[("models.ttl", "10s"), ("cache.early_refresh", "100")]).await;
    origin.hold();
    let first = async {
        wait_until("the origin is called", async || origin.request_count() == 1).await;
        // A model without a computation time is never refreshed early.
        tokio::time::sleep(Duration::from_millis(100)).await;
        origin.resume();
    };
    let (response, ()) = tokio::join!(app.get(Caller::Alice, MODEL), first);
    assert_eq!(response.header("x-cache"), "miss");
    wait_until("the model is refreshed", async || {
        let (status, x_cache) = look(&app).await;
        assert_eq!((status, x_cache.as_str()), (200, "hit"));
        origin.request_count() > 1
    })
    .await;
}

#[tokio::test]
async fn a_failing_origin_is_reported_and_called_less_often() {
    let origin = FakeOrigin::start().await;
    origin.respond_with(500);
    let settings =
        [("models.ttl", "1s"), ("models.stale_for", "1m"), ("cache.compute_timeout", "300ms")];
    let app = with_origin(&origin, &settings).await;
    let failed = app.get(Caller::Alice, MODEL).await;
    assert_eq!(failed.header("retry-after"), "1");
    failed.problem(502, "ORIGIN_FAILED");
    origin.respond_with(302);
    app.get(Caller::Alice, MODEL).await.problem(502, "ORIGIN_FAILED");
    origin.hold();
    let slow = app.get(Caller::Alice, MODEL).await;
    assert!(slow.took < Duration::from_secs(3), "{:?}", slow.took);
    slow.problem(502, "ORIGIN_FAILED");
    origin.resume();
    // The next request may call the origin at once.
    origin.respond_with(200);
    assert_eq!(look(&app).await, is(200, "miss"));
    // The stale model is still served, and the origin is called from time to time.
    origin.respond_with(503);
    wait_until("the model is stale", async || look(&app).await == is(200, "stale")).await;
    let (asked, started) = (origin.request_count(), Instant::now());
    for _ in 0..100 {
        assert_eq!(look(&app).await, is(200, "stale"));
    }
    let may = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(
        origin.request_count() - asked <= may,
        "{} in {:?}",
        origin.request_count() - asked,
        started.elapsed()
    );
}

/// The origin is another gateway, which has the model.
#[tokio::test]
async fn an_origin_with_tls_needs_a_trusted_certificate() {
    let (far, near) = (TestRedis::start(), TestRedis::start());
    write_certificate(far.dir());
    let [cert, key] =
        ["cert.pem", "key.pem"].map(|name| far.dir().join(name).display().to_string());
    let tls = [("I2M__SERVER__TLS_CERT_FILE", &*cert), ("I2M__SERVER__TLS_KEY_FILE", &*key)];
    let origin = GatewayProcess::start(far.dir(), &[&far.settings()[..], &tls].concat());
    far.run(4, &["SETEX", KEY, "50", "[7]"]).await;
    let port = origin.base.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/api/v1/models");
    write_certificate(near.dir());
    let stranger = near.dir().join("cert.pem").display().to_string();
    let http = reqwest::Client::new();
    for (authority, status) in [(&stranger, 502), (&cert, 200)] {
        let settings = [
            ("I2M__MODELS__ORIGIN", &*url),
            ("I2M__MODELS__ORIGIN_KEY", "k"),
            ("SSL_CERT_FILE", authority),
        ];
        let service =
            GatewayProcess::start(near.dir(), &[&near.settings()[..], &settings].concat());
        let look = || http.get(format!("{}{MODEL}", service.base)).bearer_auth("k");
        let mut response = ApiResponse::send(look()).await;
        wait_until("both services are connected to Redis", async || {
            response = ApiResponse::send(look()).await;
            response.status == status
        })
        .await;
        if status == 200 {
            assert_eq!(response.ok(200), json!([7]));
        } else {
            response.problem(502, "ORIGIN_FAILED");
            wait_until("the log contains the reason", async || {
                service.log.lock().unwrap().contains("invalid peer certificate")
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_value_invalidated_during_its_computation_is_not_stored() {
    let origin = FakeOrigin::start().await;
    let app = with_origin(&origin, &[("cache.compute_timeout", "20s")]).await;
    origin.hold();
    let change = async {
        wait_until("the origin is called", async || origin.request_count() == 1).await;
        put(&app, MODEL, &json!({"data": "newer"})).await.ok(200);
        assert_eq!(app.get(Caller::Alice, MODEL).await.ok(200), "newer");
        origin.resume();
    };
    let (older, ()) = tokio::join!(app.get(Caller::Alice, MODEL), change);
    assert_eq!(older.ok(200)["version"], 1);
    assert_eq!(app.get(Caller::Alice, MODEL).await.ok(200), "newer");

    // A request after a removal gets a value that was fetched after the removal.
    remove(&app, MODEL).await.ok_status(204);
    origin.hold();
    let change = async {
        wait_until("the origin is called", async || origin.request_count() == 2).await;
        remove(&app, MODEL).await.problem(404, "MODEL_NOT_FOUND");
        let again = app.get(Caller::Alice, MODEL);
        let go_on = async {
            wait_until("the origin is called again", async || origin.request_count() == 3).await;
            origin.resume();
        };
        tokio::join!(again, go_on).0
    };
    let (_, after) = tokio::join!(app.get(Caller::Alice, MODEL), change);
    assert_eq!(after.ok(200)["version"], 3);
    assert_eq!(app.get(Caller::Alice, MODEL).await.json()["version"], 3);
}

#[tokio::test]
async fn no_caller_gets_a_value_computed_before_its_removal_elsewhere() {
    let origin = FakeOrigin::start().await;
    let one = with_origin(&origin, &[("cache.compute_timeout", "20s")]).await;
    let settings = [("models.origin", origin.url.as_str()), ("cache.compute_timeout", "20s")];
    let other = TestApp::start_on(TestRedis::prepare(&[]), config(&one.redis, &settings)).await;
    other.wait_until_ready().await;
    origin.hold();
    let change = async {
        wait_until("the first process calls the origin", async || origin.request_count() == 1)
            .await;
        remove(&other, MODEL).await.problem(404, "MODEL_NOT_FOUND");
        let ask_both = async {
            wait_until("the second process calls the origin", async || origin.request_count() == 2)
                .await;
            // This request must not join the flight of its own process, which started before the removal.
            let again = one.get(Caller::Alice, MODEL);
            let go_on = async {
                wait_until("the first process waits for the second", async || {
                    let channels = one.redis.run(1, &["PUBSUB", "CHANNELS", "cache:*"]).await;
                    !channels.into_array().is_empty()
                })
                .await;
                origin.resume();
            };
            tokio::join!(again, go_on).0
        };
        tokio::join!(other.get(Caller::Alice, MODEL), ask_both)
    };
    let (older, (newer, again)) = tokio::join!(one.get(Caller::Alice, MODEL), change);
    assert_eq!(older.ok(200)["version"], 1);
    assert_eq!(
        (newer.ok(200)["version"].clone(), again.ok(200)["version"].clone()),
        (json!(2), json!(2))
    );
    assert_eq!(origin.request_count(), 2);
}

#[tokio::test]
async fn another_process_takes_over_when_the_computing_one_dies() {
    let (redis, origin) = (TestRedis::start(), FakeOrigin::start().await);
    let environment = [
        redis.settings()[0],
        redis.settings()[1],
        ("I2M__MODELS__ORIGIN", origin.url.as_str()),
        ("I2M__CACHE__COMPUTE_TIMEOUT", "700ms"),
    ];
    let mut first = GatewayProcess::start(redis.dir(), &environment);
    let settings = [("models.origin", origin.url.as_str()), ("cache.compute_timeout", "5s")];
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &settings)).await;
    app.wait_until_ready().await;
    let http = reqwest::Client::new();
    let ready = format!("{}/readyz", first.base);
    wait_until("the service is ready", async || {
        http.get(&ready).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    origin.hold();
    let doomed = http.get(format!("{}{MODEL}", first.base)).bearer_auth("k").send();
    let kill = async {
        wait_until("the origin is called", async || origin.request_count() == 1).await;
        let waiting = app.get(Caller::Alice, MODEL);
        let kill = async {
            wait_until("another process waits", async || {
                let channels = redis.run(1, &["PUBSUB", "CHANNELS", "cache:*"]).await;
                !channels.into_array().is_empty()
            })
            .await;
            first.signal("KILL");
            first.wait();
            origin.resume();
        };
        tokio::join!(waiting, kill).0
    };
    let (died, response) = tokio::join!(doomed, kill);
    assert!(died.is_err());
    assert_eq!(response.header("x-cache"), "miss");
    assert!(response.took < Duration::from_secs(4), "{:?}", response.took);
    assert_eq!(response.ok(200)["version"], 2);
}
