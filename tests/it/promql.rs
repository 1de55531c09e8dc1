//! Alerts and the dashboard use only metrics, labels and values of docs/METRICS.md, which another test compares with
//! `/metrics`. scripts/check-prometheus checks the `PromQL` syntax.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

/// Labels that Prometheus adds to all metrics and to histograms.
const ADDED: [&str; 3] = ["instance", "job", "le"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The documented metrics with their labels and, if listed, the labels' values.
fn documented() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let page = read("docs/METRICS.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut metrics = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut last = "";
        for word in cells[2].split(", ").filter(|label| !label.is_empty()) {
            // `name: value, value, name: …` or `name, name`.
            let is_value =
                labels.get(last).is_some_and(|values| !values.is_empty()) && !word.contains(':');
            let (name, value) = word.split_once(": ").unwrap_or((word, ""));
            if is_value {
                labels.get_mut(last).unwrap().insert(word.to_owned());
            } else {
                last = name.split(' ').next().unwrap();
                let values = labels.entry(last.to_owned()).or_default();
                values.extend((!value.is_empty()).then(|| value.to_owned()));
            }
        }
        metrics.insert(cells[0].trim_matches('`').to_owned(), labels);
    }
    metrics
}

/// A token of a query, as far as this test needs tokens.
#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Sign(char),
}

fn tokens(query: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || "_:.".contains(character);
        let length = if first == '"' {
            let end = rest[1..].find('"').unwrap();
            found.push(Token::Text(&rest[1..=end]));
            end + 2
        } else if is_word(first) {
            let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            found.push(Token::Word(&rest[..end]));
            end
        } else {
            found.push(Token::Sign(first));
            first.len_utf8()
        };
        rest = rest[length..].trim_start();
    }
    found
}

/// The metrics, labels and values of a query that are not documented.
fn unknown_in(query: &str) -> Vec<String> {
    let metrics = documented();
    let tokens = tokens(query);
    let mut wrong = Vec::new();
    // The labels of the last metric, and of all metrics of the query.
    let mut labels = BTreeMap::new();
    let mut all_labels: BTreeSet<String> = ADDED.map(str::to_owned).into();
    for (place, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        if !["i2m_", "process_", "up"].iter().any(|prefix| word.starts_with(prefix)) {
            continue;
        }
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        let known = [Some(*word), base].into_iter().flatten().find_map(|name| metrics.get(name));
        match known {
            Some(known) => labels.clone_from(known),
            None if *word == "up" => labels.clear(),
            None => wrong.push(format!("no metric {word}")),
        }
        all_labels.extend(labels.keys().cloned());
        if tokens.get(place + 1) == Some(&Token::Sign('{')) {
            wrong.extend(unknown_matchers(&tokens[place + 2..], &labels));
        }
    }
    for (place, token) in tokens.iter().enumerate() {
        if *token == Token::Word("by") {
            let names = tokens[place + 2..].iter().take_while(|token| **token != Token::Sign(')'));
            for name in names {
                if let Token::Word(name) = name
                    && !all_labels.contains(*name)
                {
                    wrong.push(format!("nothing has a label {name}"));
                }
            }
        }
    }
    wrong
}

/// The labels and values between braces that are not documented.
fn unknown_matchers(
    tokens: &[Token<'_>],
    labels: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut name = "";
    for token in tokens.iter().take_while(|token| **token != Token::Sign('}')) {
        match token {
            Token::Word(word) => name = word,
            Token::Text(value) => match labels.get(name) {
                _ if ADDED.contains(&name) => (),
                None => wrong.push(format!("no label {name}")),
                Some(values) if values.is_empty() || values.contains(*value) => (),
                Some(values) => wrong.push(format!("{name} is never {value:?}: {values:?}")),
            },
            Token::Sign(_) => (),
        }
    }
    wrong
}

/// The expressions of the alerts: the text after `expr:` or the lines indented below it.
fn alerts() -> Vec<String> {
    let text = read("deploy/prometheus/rules.yml");
    let mut found: Vec<String> = Vec::new();
    let mut is_folded = false;
    for line in text.lines() {
        if let Some(expression) = line.trim_start().strip_prefix("expr: ") {
            is_folded = expression == ">";
            found.push(if is_folded { String::new() } else { expression.to_owned() });
        } else if is_folded && line.starts_with("          ") {
            *found.last_mut().unwrap() += line;
        } else {
            is_folded = false;
        }
    }
    found
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/image2model-gateway.json")).unwrap()
}

/// The expressions of the dashboard's panels and of its variables.
fn panels() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let queries = targets
        .map(|target| &target["expr"])
        .chain(variables.iter().map(|variable| &variable["query"]["query"]));
    queries.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn alerts_and_the_dashboard_query_only_documented_metrics() {
    let (alerts, panels) = (alerts(), panels());
    assert_eq!(alerts.len(), read("deploy/prometheus/rules.yml").matches("- alert: ").count());
    assert!(panels.len() > 70, "{}", panels.len());
    let mut wrong = Vec::new();
    for query in alerts.iter().chain(&panels) {
        wrong.extend(unknown_in(query).into_iter().map(|name| format!("{name}: {query}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unknown_names_are_found() {
    for (query, wrong_count) in [
        (r#"sum by (instance) (rate(i2m_sse_resumes_total{source="resync"}[5m]))"#, 0),
        ("i2m_nothing", 1),
        ("i2m_sse_streams_open_total", 1),
        (r#"i2m_sse_resumes_total{sauce="resync"}"#, 1),
        (r#"i2m_sse_resumes_total{source="rsync"}"#, 1),
        ("sum by (route) (i2m_sse_streams_open)", 1),
        (r#"sum by (route) (i2m_sse_streams_open{job="x"}) / i2m_nothing"#, 2),
    ] {
        assert_eq!(unknown_in(query).len(), wrong_count, "{query}: {:?}", unknown_in(query));
    }
}

/// Reminds the author of a new metric to add it to the dashboard.
#[test]
fn the_dashboard_shows_every_metric() {
    let queries = panels().join(" ");
    let words: BTreeSet<&str> =
        queries.split(|character: char| !character.is_alphanumeric() && character != '_').collect();
    for metric in documented().keys() {
        let names = [metric.clone(), format!("{metric}_bucket")];
        assert!(names.iter().any(|name| words.contains(name.as_str())), "{metric}");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of {title} is another's too");
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(right <= 24, "{title} is too far to the right");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        }
    }
}
