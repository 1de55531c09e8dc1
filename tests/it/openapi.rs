//! The API document: it is complete, and its statements about keys and roles are correct.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ApiResponse, Caller, GatewayProcess, TestApp};

const ROLES: [(&str, Caller); 3] =
    [("client", Caller::Alice), ("worker", Caller::Worker), ("admin", Caller::Admin)];

/// An operation of the document, with examples for its path parameters.
struct Operation {
    method: Method,
    path: String,
    value: Value,
}

impl Operation {
    fn all(document: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, value) in item.as_object().unwrap() {
                let method = method.to_uppercase().parse().unwrap();
                all.push(Self { method, path: path.clone(), value: value.clone() });
            }
        }
        assert!(all.len() > 25, "only {} operations", all.len());
        all
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self, place: &str) -> impl Iterator<Item = &Value> {
        let all = self.value["parameters"].as_array().into_iter().flatten();
        all.filter(move |parameter| parameter["in"] == place)
    }

    /// The path with the examples of its parameters.
    fn example_path(&self) -> String {
        self.parameters("path").fold(self.path.clone(), |path, parameter| {
            let name = parameter["name"].as_str().unwrap();
            let example = parameter["schema"]["examples"][0].as_str().unwrap();
            path.replace(&format!("{{{name}}}"), example)
        })
    }

    /// The roles of which a caller needs one; `None` if no key is needed.
    fn roles(&self) -> Option<BTreeSet<&str>> {
        let security = self.value["security"].as_array().unwrap();
        let bearer = security.iter().find_map(|requirement| requirement.get("bearer"))?;
        Some(bearer.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect())
    }

    /// Sends the request that the document shows as an example.
    async fn ask(&self, app: &TestApp, who: Caller) -> ApiResponse {
        let query: Vec<String> = self
            .parameters("query")
            .filter_map(|parameter| {
                Some(format!("{}={}", parameter["name"].as_str()?, parameter["example"].as_str()?))
            })
            .collect();
        let path = format!("{}?{}", self.example_path(), query.join("&"));
        let mut request = app.request(who, self.method.clone(), &path);
        if let Some(content) = self.value["requestBody"]["content"].as_object() {
            request = request.json(&content["application/json"]["example"]);
        }
        ApiResponse::send(request).await
    }
}

async fn document(app: &TestApp) -> Value {
    let response = app.get(Caller::Anonymous, "/openapi.json").await;
    assert_eq!(response.header("content-type"), "application/json");
    response.ok(200)
}

/// No route can be missing: `tests/architecture.rs` allows only `routes!` to add routes.
#[tokio::test]
async fn every_operation_is_described_in_full() {
    let app = TestApp::start().await;
    let document = document(&app).await;
    assert_eq!(document["openapi"], "3.1.0");
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    for operation in Operation::all(&document) {
        let name = operation.name();
        let value = &operation.value;
        let mut check = |ok: bool, what: &str| {
            if !ok {
                wrong.push(format!("{name}: {what}"));
            }
        };
        check(ids.insert(value["operationId"].to_string()), "its operationId is another's too");
        check(
            value["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
            "a doc comment is missing",
        );
        let tag = value["tags"][0].as_str().unwrap_or_default();
        check(tags.contains(tag), "its tag is not in TAGS of src/openapi/mod.rs");
        let placeholder_count = operation.path.matches('{').count();
        check(
            operation.parameters("path").count() == placeholder_count,
            "a part of its path is not in src/openapi/parameters.rs",
        );
        let body = &value["requestBody"]["content"];
        check(
            body.is_null() || has_examples(body),
            "its body has no example; give its fields some",
        );
        let responses = value["responses"].as_object().unwrap();
        check(responses.keys().any(|status| status.starts_with('2')), "it never succeeds");
        for (status, response) in responses {
            let content = &response["content"];
            let is_error = status.starts_with('4');
            check(
                !is_error || content.is_object(),
                &format!("{status} names no code of src/openapi/errors.rs"),
            );
            check(content.is_null() || has_examples(content), &format!("{status} has no example"));
        }
        if operation.path.starts_with("/api/v1/") && !operation.path.starts_with("/api/v1/health") {
            check(operation.roles().is_some(), "it says no roles");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn has_examples(content: &Value) -> bool {
    content.as_object().unwrap().iter().all(|(kind, media)| {
        kind == "text/event-stream"
            || media.get("example").or_else(|| media.get("examples")).is_some()
    })
}

#[tokio::test]
async fn permissions_are_as_documented() {
    let app = TestApp::start().await;
    let mut wrong = Vec::new();
    for operation in Operation::all(&document(&app).await) {
        let name = operation.name();
        let Some(roles) = operation.roles() else {
            let status = operation.ask(&app, Caller::Anonymous).await.status;
            if status == 403 {
                wrong.push(format!("{name} asks for a key"));
            }
            continue;
        };
        operation.ask(&app, Caller::Anonymous).await.problem(403, "AUTHENTICATION_REQUIRED");
        for (role, who) in ROLES {
            let response = operation.ask(&app, who).await;
            let is_let_in = response.status != 403;
            if is_let_in != roles.contains(role) {
                wrong.push(format!("{name} as {role}: {} {}", response.status, response.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn every_response_has_a_documented_status_and_error_code() {
    let app = TestApp::start().await;
    let document = document(&app).await;
    let codes = &document["components"]["schemas"]["Problem"]["properties"]["error_code"]["enum"];
    for operation in Operation::all(&document) {
        for (_, who) in ROLES {
            let response = operation.ask(&app, who).await;
            let responses = &operation.value["responses"];
            let said = &responses[response.status.to_string()];
            assert!(
                said.is_object(),
                "{}: {} {}",
                operation.name(),
                response.status,
                response.text
            );
            if response.status >= 400 && response.status != 503 {
                let code = response.json()["error_code"].clone();
                assert!(codes.as_array().unwrap().contains(&code), "{code}");
                let description = said["description"].as_str().unwrap();
                assert!(
                    description.contains(code.as_str().unwrap()),
                    "{}: {} {code} is not in {description:?}",
                    operation.name(),
                    response.status
                );
            }
        }
    }
}

#[tokio::test]
async fn the_command_line_prints_the_same_document() {
    let app = TestApp::start().await;
    let served = document(&app).await;
    let output = GatewayProcess::output(app.redis.dir(), &["routes", "--openapi"], &[]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), served);

    let listed = GatewayProcess::output(app.redis.dir(), &["routes"], &[]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(text.lines().count(), Operation::all(&served).len());
    assert!(
        text.lines().any(|line| line.starts_with("POST") && line.contains("/api/v1/jobs ")),
        "{text}"
    );
    assert_eq!(json!(listed.status.code()), 0);
}
