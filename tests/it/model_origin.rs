//! Models that are missing, and the origin that is asked for them: by one caller of all, in all processes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    hardening::certificate,
    harness::{Answer, As, Origin, ServiceProcess, TestApp, TestRedis, config, until},
    models::{KEY, MODEL, is, look, put, remove},
};

async fn with_origin(origin: &Origin, settings: &[(&str, &str)]) -> TestApp {
    let ours = [("models.origin", origin.url.as_str()), ("rate_limit.enabled", "false")];
    TestApp::start_with(&[&ours[..], settings].concat()).await
}

/// All values of a metric on a page for Prometheus.
fn sum(page: &str, name: &str) -> f64 {
    let values = page.lines().filter_map(|it| it.strip_prefix(name)?.rsplit_once(' '));
    values.filter_map(|it| it.1.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_thousand_misses_at_three_processes_compute_once() {
    let (redis, origin) = (TestRedis::start(), Origin::start().await);
    let environment = [
        redis.place()[0],
        redis.place()[1],
        ("I2M__MODELS__ORIGIN", origin.url.as_str()),
        ("I2M__MODELS__ORIGIN_KEY", "secret"),
        ("I2M__RATE_LIMIT__ENABLED", "false"),
        ("I2M__REDIS__COMMAND_TIMEOUT", "10s"),
        ("I2M__CACHE__COMPUTE_TIMEOUT", "20s"),
        ("I2M__SERVER__REQUEST_TIMEOUT", "20s"),
    ];
    let services = [(); 3].map(|()| ServiceProcess::start(redis.dir(), &environment));
    let http = reqwest::Client::new();
    for service in &services {
        let url = format!("{}/readyz", service.base);
        until("ready", async || http.get(&url).send().await.is_ok_and(|it| it.status() == 200))
            .await;
    }
    origin.hold();
    let requests = (0..1000).map(|i| {
        let request = http.get(format!("{}{MODEL}", services[i % 3].base)).bearer_auth("k");
        async move {
            let answer = Answer::of(request).await;
            (answer.status, answer.header("x-cache").to_owned(), answer.text)
        }
    });
    let let_go = async {
        // All who look while it is held find nothing; so far, one process has asked.
        until("all have looked, and wait", async || {
            let mut waiting = 0.0;
            for service in &services {
                let page = http.get(format!("{}/metrics", service.base)).send().await.unwrap();
                let page = page.text().await.unwrap();
                // This request is one of them.
                waiting += sum(&page, "i2m_http_requests_in_flight") - 1.0;
                waiting -= sum(&page, "i2m_redis_calls_in_flight");
            }
            let info: String = redis.run(4, &["INFO", "commandstats"]).await.convert().unwrap();
            let calls = info.lines().find_map(|it| it.strip_prefix("cmdstat_evalsha:calls="));
            let calls = calls.and_then(|it| it.split(',').next()?.parse::<u32>().ok());
            waiting >= 1000.0 && calls.is_some_and(|it| it >= 1000)
        })
        .await;
        assert_eq!(origin.asked(), 1);
        origin.go_on();
    };
    let (answers, ()) = tokio::join!(join_all(requests), let_go);
    let model = r#"{"path":"/models/chair-1","version":1,"key":"Bearer secret"}"#;
    for answer in answers {
        assert_eq!(answer, (200, "miss".to_owned(), model.to_owned()));
    }
    assert_eq!(origin.asked(), 1);
    let claims: Vec<String> = redis.run(4, &["KEYS", "i2m:claim:*"]).await.convert().unwrap();
    assert_eq!(claims, Vec::<String>::new());
}

#[tokio::test]
async fn that_there_is_none_is_remembered() {
    let origin = Origin::start().await;
    origin.answer_with(404);
    let app = with_origin(&origin, &[("models.negative_ttl", "1s")]).await;
    assert_eq!(look(&app).await, is(404, "miss"));
    assert_eq!(look(&app).await, is(404, "negative"));
    assert_eq!(origin.asked(), 1);
    // What a worker stores, or another program, is there at once.
    put(&app, MODEL, &json!({"data": 7})).await.ok(200);
    assert_eq!(look(&app).await, is(200, "hit"));
    remove(&app, MODEL).await.ok_status(204);
    assert_eq!(look(&app).await, is(404, "miss"));
    app.redis.run(4, &["SETEX", KEY, "50", "7"]).await;
    assert_eq!(look(&app).await, is(200, "hit"));
    app.redis.run(4, &["DEL", KEY]).await;
    assert_eq!(look(&app).await, is(404, "negative"));
    until("it is asked again", async || look(&app).await == is(404, "miss")).await;
}

#[tokio::test]
async fn a_stale_model_is_served_while_one_fetches_it_anew() {
    let origin = Origin::start().await;
    let settings = [("models.ttl", "1s"), ("models.stale_for", "1m"), ("cache.early_refresh", "0")];
    let app = with_origin(&origin, &settings).await;
    assert_eq!(look(&app).await, is(200, "miss"));
    origin.hold();
    until("it is stale", async || look(&app).await == is(200, "stale")).await;
    let answers = join_all((0..50).map(|_| app.get(As::Alice, MODEL))).await;
    for answer in &answers {
        assert_eq!((answer.header("x-cache"), &answer.json()["version"]), ("stale", &json!(1)));
    }
    until("it is asked for", async || origin.asked() == 2).await;
    origin.go_on();
    until("it is fresh", async || look(&app).await == is(200, "hit")).await;
    assert_eq!(app.get(As::Alice, MODEL).await.json()["version"], 2);
    assert_eq!(origin.asked(), 2);
}

#[tokio::test]
async fn a_model_is_fetched_anew_before_it_is_stale() {
    let origin = Origin::start().await;
    // So early that it is due at one look of three.
    let app = with_origin(&origin, &[("models.ttl", "10s"), ("cache.early_refresh", "100")]).await;
    origin.hold();
    let first = async {
        until("it is asked for", async || origin.asked() == 1).await;
        // A model that costs nothing is never early.
        tokio::time::sleep(Duration::from_millis(100)).await;
        origin.go_on();
    };
    let (answer, ()) = tokio::join!(app.get(As::Alice, MODEL), first);
    assert_eq!(answer.header("x-cache"), "miss");
    until("it is fetched anew", async || {
        let (status, x_cache) = look(&app).await;
        assert_eq!((status, x_cache.as_str()), (200, "hit"));
        origin.asked() > 1
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_fails_is_said_to_and_spared() {
    let origin = Origin::start().await;
    origin.answer_with(500);
    let settings =
        [("models.ttl", "1s"), ("models.stale_for", "1m"), ("cache.compute_timeout", "300ms")];
    let app = with_origin(&origin, &settings).await;
    let failed = app.get(As::Alice, MODEL).await;
    assert_eq!(failed.header("retry-after"), "1");
    failed.problem(502, "ORIGIN_FAILED");
    origin.answer_with(302);
    app.get(As::Alice, MODEL).await.problem(502, "ORIGIN_FAILED");
    origin.hold();
    let slow = app.get(As::Alice, MODEL).await;
    assert!(slow.took < Duration::from_secs(3), "{:?}", slow.took);
    slow.problem(502, "ORIGIN_FAILED");
    origin.go_on();
    // The next one may try at once.
    origin.answer_with(200);
    assert_eq!(look(&app).await, is(200, "miss"));
    // What was there is served on, and the origin is asked once in a while.
    origin.answer_with(503);
    until("it is stale", async || look(&app).await == is(200, "stale")).await;
    let (asked, started) = (origin.asked(), Instant::now());
    for _ in 0..100 {
        assert_eq!(look(&app).await, is(200, "stale"));
    }
    let may = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(origin.asked() - asked <= may, "{} in {:?}", origin.asked() - asked, started.elapsed());
}

/// The origin is another service here, which has the model.
#[tokio::test]
async fn an_origin_is_asked_over_tls_if_somebody_vouches_for_it() {
    let (far, near) = (TestRedis::start(), TestRedis::start());
    certificate(far.dir());
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| far.dir().join(it).display().to_string());
    let tls = [("I2M__SERVER__TLS_CERT_FILE", &*cert), ("I2M__SERVER__TLS_KEY_FILE", &*key)];
    let origin = ServiceProcess::start(far.dir(), &[&far.place()[..], &tls].concat());
    far.run(4, &["SETEX", KEY, "50", "[7]"]).await;
    let port = origin.base.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/api/v1/models");
    certificate(near.dir());
    let stranger = near.dir().join("cert.pem").display().to_string();
    let http = reqwest::Client::new();
    for (authority, status) in [(&stranger, 502), (&cert, 200)] {
        let settings = [
            ("I2M__MODELS__ORIGIN", &*url),
            ("I2M__MODELS__ORIGIN_KEY", "k"),
            ("SSL_CERT_FILE", authority),
        ];
        let service = ServiceProcess::start(near.dir(), &[&near.place()[..], &settings].concat());
        let look = || http.get(format!("{}{MODEL}", service.base)).bearer_auth("k");
        let mut answer = Answer::of(look()).await;
        until("both services have their Redis", async || {
            answer = Answer::of(look()).await;
            answer.status == status
        })
        .await;
        if status == 200 {
            assert_eq!(answer.ok(200), json!([7]));
        } else {
            answer.problem(502, "ORIGIN_FAILED");
            until("the log says why", async || {
                service.log.lock().unwrap().contains("invalid peer certificate")
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_was_invalidated_while_it_was_computed_is_not_stored() {
    let origin = Origin::start().await;
    let app = with_origin(&origin, &[("cache.compute_timeout", "20s")]).await;
    origin.hold();
    let change = async {
        until("it is asked for", async || origin.asked() == 1).await;
        put(&app, MODEL, &json!({"data": "newer"})).await.ok(200);
        assert_eq!(app.get(As::Alice, MODEL).await.ok(200), "newer");
        origin.go_on();
    };
    let (older, ()) = tokio::join!(app.get(As::Alice, MODEL), change);
    assert_eq!(older.ok(200)["version"], 1);
    assert_eq!(app.get(As::Alice, MODEL).await.ok(200), "newer");

    // Who asks after a removal gets what was fetched after it.
    remove(&app, MODEL).await.ok_status(204);
    origin.hold();
    let change = async {
        until("it is asked for", async || origin.asked() == 2).await;
        remove(&app, MODEL).await.problem(404, "MODEL_NOT_FOUND");
        let again = app.get(As::Alice, MODEL);
        let go_on = async {
            until("it is asked for again", async || origin.asked() == 3).await;
            origin.go_on();
        };
        tokio::join!(again, go_on).0
    };
    let (_, after) = tokio::join!(app.get(As::Alice, MODEL), change);
    assert_eq!(after.ok(200)["version"], 3);
    assert_eq!(app.get(As::Alice, MODEL).await.json()["version"], 3);
}

#[tokio::test]
async fn nobody_gets_what_was_computed_before_they_removed_it_elsewhere() {
    let origin = Origin::start().await;
    let one = with_origin(&origin, &[("cache.compute_timeout", "20s")]).await;
    let settings = [("models.origin", origin.url.as_str()), ("cache.compute_timeout", "20s")];
    let other = TestApp::start_on(TestRedis::prepare(&[]), config(&one.redis, &settings)).await;
    other.until_ready().await;
    origin.hold();
    let change = async {
        until("one asks", async || origin.asked() == 1).await;
        remove(&other, MODEL).await.problem(404, "MODEL_NOT_FOUND");
        let ask_both = async {
            until("the other asks", async || origin.asked() == 2).await;
            // Not the flight that began before the removal, though it is of this process.
            let again = one.get(As::Alice, MODEL);
            let go_on = async {
                until("one waits for the other", async || {
                    let channels = one.redis.run(1, &["PUBSUB", "CHANNELS", "cache:*"]).await;
                    !channels.into_array().is_empty()
                })
                .await;
                origin.go_on();
            };
            tokio::join!(again, go_on).0
        };
        tokio::join!(other.get(As::Alice, MODEL), ask_both)
    };
    let (older, (newer, again)) = tokio::join!(one.get(As::Alice, MODEL), change);
    assert_eq!(older.ok(200)["version"], 1);
    assert_eq!(
        (newer.ok(200)["version"].clone(), again.ok(200)["version"].clone()),
        (json!(2), json!(2))
    );
    assert_eq!(origin.asked(), 2);
}

#[tokio::test]
async fn when_who_computes_dies_another_takes_over() {
    let (redis, origin) = (TestRedis::start(), Origin::start().await);
    let environment = [
        redis.place()[0],
        redis.place()[1],
        ("I2M__MODELS__ORIGIN", origin.url.as_str()),
        ("I2M__CACHE__COMPUTE_TIMEOUT", "700ms"),
    ];
    let mut first = ServiceProcess::start(redis.dir(), &environment);
    let settings = [("models.origin", origin.url.as_str()), ("cache.compute_timeout", "5s")];
    let app = TestApp::start_on(TestRedis::prepare(&[]), config(&redis, &settings)).await;
    app.until_ready().await;
    let http = reqwest::Client::new();
    let ready = format!("{}/readyz", first.base);
    until("ready", async || http.get(&ready).send().await.is_ok_and(|it| it.status() == 200)).await;
    origin.hold();
    let doomed = http.get(format!("{}{MODEL}", first.base)).bearer_auth("k").send();
    let kill = async {
        until("it is asked for", async || origin.asked() == 1).await;
        let waiting = app.get(As::Alice, MODEL);
        let kill = async {
            until("another waits", async || {
                let channels = redis.run(1, &["PUBSUB", "CHANNELS", "cache:*"]).await;
                !channels.into_array().is_empty()
            })
            .await;
            first.signal("KILL");
            first.wait();
            origin.go_on();
        };
        tokio::join!(waiting, kill).0
    };
    let (died, answer) = tokio::join!(doomed, kill);
    assert!(died.is_err());
    assert_eq!(answer.header("x-cache"), "miss");
    assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);
    assert_eq!(answer.ok(200)["version"], 2);
}
