//! Text formats of metrics: `OpenMetrics`, and the older Prometheus format for clients that do not accept it.

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    registry::Registry,
};

/// Encodes the registry's metrics, without the final `# EOF` line.
pub(super) fn encode(registry: &Registry) -> String {
    let mut text = String::with_capacity(32 * 1024);
    // Writing to a String does not fail.
    _ = encode_registry(&mut text, registry);
    text
}

/// A metric whose value is read at scrape time.
pub(crate) struct ScrapedMetric {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) help: &'static str,
    /// The name of its label; empty for a metric with a single sample.
    pub(crate) label: &'static str,
}

impl ScrapedMetric {
    /// Encodes the metric. `samples` are pairs of a label value, which must need no escaping, and a number.
    pub(crate) fn to_text(&self, samples: impl IntoIterator<Item = (String, String)>) -> String {
        use std::fmt::Write as _;

        let Self { name, kind, help, label } = self;
        let suffix = if *kind == "counter" { "_total" } else { "" };
        let mut text = format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        for (label_value, value) in samples {
            _ = match *label {
                "" => writeln!(text, "{name}{suffix} {value}"),
                label => writeln!(text, "{name}{suffix}{{{label}=\"{label_value}\"}} {value}"),
            };
        }
        text
    }
}

/// Whether an `Accept` header asks for `OpenMetrics`, as Prometheus does.
pub(crate) fn is_open_metrics(accept: &str) -> bool {
    accept.contains("application/openmetrics-text")
}

/// Converts `OpenMetrics` text into the requested format. The older format declares a counter under its full name
/// (`_total`), and has no final line.
pub(crate) fn to_prometheus_text(mut text: String, open_metrics: bool) -> String {
    if open_metrics {
        _ = encode_eof(&mut text);
        return text;
    }
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                older.extend(["# ", kind, " ", name, "_total ", rest, "\n"]);
            }
            _ => older.extend([line, "\n"]),
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_the_same_samples() {
        let text = "# HELP a Of a.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n".to_owned();
        let older = to_prometheus_text(text.clone(), false);
        assert_eq!(
            older,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n"
        );
        assert_eq!(to_prometheus_text(text.clone(), true), text + "# EOF\n");
    }
}
