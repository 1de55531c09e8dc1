//! The commands that each call costs Redis, as docs/REDIS.md lists them, independent of the number of jobs.

use std::{collections::BTreeMap, path::Path};

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    harness::{
        ApiResponse, Caller, CommandCost, CommandCounter, FakeOrigin, TestApp, TestRedis,
        config_with, path_of, wait_until,
    },
    models::MODEL,
    rate_limit::LIST,
};

/// Settings that disable background work.
const QUIET: [(&str, &str); 9] = [
    ("redis.pool_size", "1"),
    ("rate_limit.enabled", "false"),
    ("auth.ticket_secrets", "0123456789abcdef"),
    ("redis.probe_interval", "1m"),
    ("sse.reconcile_interval", "10m"),
    ("shared_metrics.flush_interval", "1m"),
    ("cleanup.interval", "0s"),
    ("celery.poll_interval", "1h"),
    ("celery.broker_url", ""),
];

type Costs = BTreeMap<&'static str, CommandCost>;

/// A service whose Redis commands are counted.
struct Watched {
    app: TestApp,
    counter: CommandCounter,
    costs: Costs,
}

impl Watched {
    async fn start(settings: &[(&str, &str)], toml: &str) -> Self {
        let redis = TestRedis::start();
        let settings = [&QUIET[..], settings].concat();
        let config = config_with(&redis, &settings, toml);
        let mut counter = CommandCounter::start(&redis).await;
        let app = TestApp::start_on(redis, config).await;
        app.wait_until_ready().await;
        // The check of the maxmemory-policy, which runs some time after a start.
        counter.wait_until_sent("\"INFO\" \"memory\"").await;
        Self { app, counter, costs: Costs::new() }
    }

    /// Sends a request, records its cost and returns the response.
    async fn measure(&mut self, call: &'static str, request: RequestBuilder) -> ApiResponse {
        let (cost, response) = self.counter.measure(ApiResponse::send(request)).await;
        let twice = self.costs.insert(call, cost);
        assert_eq!(twice, None, "{call}");
        response
    }

    async fn get(&mut self, call: &'static str, who: Caller, path: &str) -> ApiResponse {
        let request = self.app.request(who, Method::GET, path);
        self.measure(call, request).await
    }

    async fn send(
        &mut self,
        call: &'static str,
        (who, method, path): (Caller, Method, &str),
        body: &Value,
    ) -> ApiResponse {
        let request = self.app.request(who, method, path).json(body);
        self.measure(call, request).await
    }

    async fn post(
        &mut self,
        call: &'static str,
        who: Caller,
        path: &str,
        body: &Value,
    ) -> ApiResponse {
        self.send(call, (who, Method::POST, path), body).await
    }

    /// Measures each call.
    async fn all(&mut self) -> Costs {
        self.jobs().await;
        self.progress().await;
        self.locks().await;
        self.models().await;
        self.others().await;
        self.streams().await;
        std::mem::take(&mut self.costs)
    }

    async fn jobs(&mut self) {
        // The page of the list is full in both measurements.
        self.app.create_job(1).await;
        let new = json!({"files": vec![json!({"filename": "a.png"}); 5]});
        let job = self.post("POST job", Caller::Alice, LIST, &new).await.ok(201);
        let path = path_of(&job);
        self.get("GET job", Caller::Alice, path).await.ok(200);
        let status = format!("{path}/status");
        assert_eq!(self.get("GET status", Caller::Alice, &status).await.header("x-cache"), "miss");
        let cached = self.get("GET status, cached", Caller::Alice, &status).await;
        assert_eq!(cached.header("x-cache"), "hit");
        let again = self.app.request(Caller::Alice, Method::GET, &status);
        let again = again.header("if-none-match", cached.header("etag"));
        self.measure("GET status, 304", again).await.ok_status(304);
        let page = self.get("a page of a list", Caller::Alice, &format!("{LIST}?limit=2")).await;
        assert_eq!(page.ok(200)["jobs"].as_array().map(Vec::len), Some(2));
        self.post("cancel", Caller::Alice, &format!("{path}/cancel"), &json!({})).await.ok(200);
        let gone = self.app.request(Caller::Alice, Method::DELETE, path);
        self.measure("DELETE job", gone).await.ok_status(204);
    }

    async fn progress(&mut self) {
        let job = self.app.create_job(25).await;
        let path = path_of(&job);
        let one = format!("{path}/files/file_000/progress");
        self.post("POST progress", Caller::Worker, &one, &json!({"progress": 10})).await.ok(200);
        let all = format!("{path}/progress");
        let files: Vec<Value> =
            (0..25).map(|i| json!({"file_id": format!("file_{i:03}"), "progress": 20})).collect();
        let batch = json!({"files": files});
        self.post("POST progress, 25 files", Caller::Worker, &all, &batch).await.ok(200);
        self.get("GET progress", Caller::Alice, &all).await.ok(200);

        let job = self.app.create_job(2).await;
        let result = format!("{}/files/file_000/result", path_of(&job));
        let failed = json!({"status": "failed", "error": "boom"});
        self.send("PUT result", (Caller::Worker, Method::PUT, &result), &failed).await.ok(200);
        self.app.complete(&job, 1).await.ok(200);
        let retry = format!("{}/retry", path_of(&job));
        self.post("retry", Caller::Alice, &retry, &json!({})).await.ok(200);
    }

    async fn streams(&mut self) {
        let job = self.app.create_job(1).await;
        let Self { app, counter, costs } = self;
        let report = async |percent: u8| {
            app.report(&job, 0, &json!({"progress": percent})).await.ok(200);
        };
        let open = async || {
            let mut stream = app.follow(&job, None).await;
            stream.next().await.unwrap();
            stream
        };
        // The first report of a job writes more events.
        report(10).await;
        let (reported, ()) = counter.measure(report(20)).await;
        let (cost, mut first) = counter.measure(open()).await;
        costs.insert("the first watcher of a job", cost);
        let (cost, mut second) = counter.measure(open()).await;
        costs.insert("a new watcher of a watched job", cost);
        let both = async {
            report(30).await;
            while first.wait_for("task_progress").await.data["progress"] != 30 {}
            while second.wait_for("task_progress").await.data["progress"] != 30 {}
        };
        let (told, ()) = counter.measure(both).await;
        let heard = CommandCost {
            round_trips: told.round_trips - reported.round_trips,
            commands: told.commands - reported.commands,
        };
        costs.insert("an event, per process that has watchers", heard);
        drop((first, second));
        wait_until("no stream is open", async || {
            app.get(Caller::Admin, "/api/v1/admin/streams").await.ok(200)["open"] == 0
        })
        .await;
    }

    async fn locks(&mut self) {
        const PATH: &str = "/api/v1/locks/a";
        let (ttl, worker) = (json!({"ttl_secs": 30}), Caller::Worker);
        let lock = self.post("POST lock", worker, PATH, &ttl).await.ok(201);
        let token = lock["token"].as_str().unwrap();
        let more = json!({"token": token, "ttl_secs": 60});
        self.send("PATCH lock", (worker, Method::PATCH, PATH), &more).await.ok(200);
        let path = format!("{PATH}?token={token}");
        let release = self.app.request(worker, Method::DELETE, &path);
        self.measure("DELETE lock", release).await.ok_status(204);
    }

    async fn models(&mut self) {
        let model = json!({"data": [1, 2], "tags": ["t"]});
        self.send("PUT model", (Caller::Worker, Method::PUT, MODEL), &model).await.ok(200);
        assert_eq!(self.get("GET model", Caller::Alice, MODEL).await.header("x-cache"), "hit");
        let tag = json!({"tag": "t"});
        let invalidate = "/api/v1/admin/cache/invalidate";
        let removed = self.post("invalidate a tag", Caller::Admin, invalidate, &tag).await.ok(200);
        assert_eq!(removed["removed"], 1);
        self.get("GET model, missing", Caller::Alice, MODEL).await.problem(404, "MODEL_NOT_FOUND");
        self.app.send(Caller::Worker, Method::PUT, MODEL, &model).await.ok(200);
        let remove = self.app.request(Caller::Worker, Method::DELETE, MODEL);
        self.measure("DELETE model", remove).await.ok_status(204);
    }

    async fn others(&mut self) {
        let metric = "/api/v1/metrics/made";
        self.post("POST metric", Caller::Worker, metric, &json!({"increment": 1}))
            .await
            .ok_status(202);
        self.get("GET /livez, GET /readyz", Caller::Anonymous, "/readyz").await.ok(200);
        self.get("GET /metrics", Caller::Anonymous, "/metrics").await.ok_status(200);
        wait_until("no earlier health report is reused", async || {
            let ask = self.app.get(Caller::Anonymous, "/health");
            let (cost, _) = self.counter.measure(ask).await;
            self.costs.insert("GET /health", cost);
            cost.round_trips > 0
        })
        .await;
        self.get("a path that does not exist", Caller::Alice, "/nothing").await.ok_status(404);
    }
}
/// Adds thousands of keys of jobs of the same owner and of another one.
async fn add_jobs(app: &TestApp) {
    const N: usize = 100;
    let new = json!({"files": vec![json!({"filename": "b.png"}); 25]});
    let add = async |who: Caller| {
        let added = join_all((0..N).map(|_| app.post(who, LIST, &new))).await;
        for response in added {
            response.ok(201);
        }
    };
    add(Caller::Alice).await;
    add(Caller::Bob).await;
    for (database, at_least) in [(1, 8 * N), (2, 50 * N)] {
        let n: usize = app.redis.run(database, &["DBSIZE"]).await.convert().unwrap();
        assert!(n > at_least, "{n} keys in {database}");
    }
}

async fn with_limits() -> Costs {
    let patient = [("rate_limit.enabled", "true"), ("rate_limit.deadline", "10s")];
    let mut watched = Watched::start(&patient, "").await;
    let job = watched.app.create_job(1).await;
    watched.app.get(Caller::Alice, path_of(&job)).await.ok(200);
    watched.get("GET job, with limits", Caller::Alice, path_of(&job)).await.ok(200);
    let new = json!({"files": [{"filename": "a.png"}]});
    watched.post("POST job, with limits", Caller::Alice, LIST, &new).await.ok(201);
    watched.costs
}

async fn refused() -> Costs {
    const FEW: &str =
        "[[rate_limit.policies]]\nname = 'few'\nscope = 'key'\nlimit = 3\nwindow = '1h'";
    let settings = [
        ("rate_limit.enabled", "true"),
        ("rate_limit.deadline", "10s"),
        ("rate_limit.failed_keys_limit", "3"),
        ("rate_limit.failed_keys_window", "1h"),
    ];
    let mut watched = Watched::start(&settings, FEW).await;
    wait_until("the request is rejected", async || {
        watched.app.get(Caller::Alice, LIST).await.status == 429
    })
    .await;
    watched.get("refused by limits", Caller::Alice, LIST).await.ok_status(429);
    let path = format!("{}{LIST}", watched.app.base);
    let wrong = || watched.app.http.get(&path).bearer_auth("wrong");
    let (first, again) = (wrong(), wrong());
    // This loads the script.
    ApiResponse::send(wrong()).await.problem(403, "INVALID_API_KEY");
    watched.measure("a wrong key or ticket", first).await.problem(403, "INVALID_API_KEY");
    let another = || watched.app.http.get(&path).bearer_auth("wrong");
    wait_until("the request is rejected", async || {
        ApiResponse::send(another()).await.status == 429
    })
    .await;
    watched.measure("refused for wrong keys", again).await.ok_status(429);
    watched.costs
}

async fn handed_to_celery() -> Costs {
    let Watched { app, mut counter, mut costs } =
        Watched::start(&[("celery.enabled", "true")], "").await;
    let new = json!({"files": vec![json!({"filename": "a.png"}); 5]});
    let mut last = CommandCost::default();
    wait_until("the leader has finished its startup work", async || {
        let before = last;
        let (cost, response) = counter.measure(app.post(Caller::Alice, LIST, &new)).await;
        response.ok(201);
        last = cost;
        last == before
    })
    .await;
    costs.insert("POST job, with Celery", last);
    costs
}

async fn fetched() -> Costs {
    let origin = FakeOrigin::start().await;
    let mut watched = Watched::start(&[("models.origin", &origin.url)], "").await;
    // This loads the scripts.
    watched.app.get(Caller::Alice, MODEL).await.ok(200);
    let other = MODEL.replace("chair-1", "chair-2");
    let fetched = watched.get("GET model, from its origin", Caller::Alice, &other).await;
    assert_eq!((fetched.header("x-cache"), origin.request_count()), ("miss", 2));
    watched.costs
}

/// Rows that are not measured, because their numbers depend on the amount of work.
const NOT_MEASURED: [&str; 5] = [
    "a lock that is waited for",
    "invalidate a pattern",
    "a webhook",
    "all metrics of a process",
    "a cleanup",
];

/// The rows of the table in docs/REDIS.md.
fn documented() -> BTreeMap<String, [String; 2]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/REDIS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| call | round trips | commands |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let numbers = [cells[2], cells[3]].map(str::to_owned);
        assert_eq!(documented.insert(cells[1].to_owned(), numbers), None, "{row}");
    }
    documented
}

#[tokio::test]
async fn each_call_costs_the_documented_commands_for_any_number_of_jobs() {
    let mut watched = Watched::start(&[], "").await;
    // Loads each script.
    watched.all().await;
    let mut costs = watched.all().await;
    add_jobs(&watched.app).await;
    assert_eq!(watched.all().await, costs, "among other jobs");
    costs.extend(with_limits().await);
    costs.extend(refused().await);
    costs.extend(handed_to_celery().await);
    costs.extend(fetched().await);

    for (call, at_most) in
        [("POST job, with Celery", 3), ("GET job, with limits", 2), ("POST progress", 2)]
    {
        assert!(costs[call].round_trips <= at_most, "{call}");
    }
    let mut documented = documented();
    for call in NOT_MEASURED {
        assert!(documented.remove(call).is_some(), "{call} is not in docs/REDIS.md");
    }
    let measured: BTreeMap<String, [String; 2]> = costs
        .into_iter()
        .map(|(call, cost)| {
            (call.to_owned(), [cost.round_trips, cost.commands].map(|n| n.to_string()))
        })
        .collect();
    assert_eq!(documented, measured, "docs/REDIS.md, and what was measured");
}
