//! `config-reference`: every setting with its default and what it does, from the doc comments beside the code.

use std::fmt::Write as _;

use anyhow::Result;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use toml::Table;

use super::{Config, DEFAULTS, variable};

const INTRODUCTION: &str = "\
# Settings

Written by `image2model-gateway config-reference`, from the code. Each has its default from
[config/default.toml](../config/default.toml), which a file given by `--config` changes, and then the environment:
`I2M__REDIS__URL` is `redis.url`, and `I2M__REDIS__URL_FILE` names a file that has it, which suits secrets. There, lists
are separated by commas. What has no variable stands in a file only. `image2model-gateway check-config` says what is in
force; a setting that is unknown or not valid stops the start.

A *time* is written as `250ms`, `5s`, `10m` or `24h`, a *size* as `64KiB` or `1MiB`. A *secret* is never shown.
";

/// The reference, as Markdown.
///
/// # Errors
///
/// If the defaults cannot be read, which a test excludes.
pub(crate) fn reference() -> Result<String> {
    let defaults = toml::from_str(DEFAULTS)?;
    let mut text = INTRODUCTION.to_owned();
    describe(&mut text, "", &schema(), &defaults)?;
    Ok(text)
}

/// All settings as a JSON schema, whose descriptions are the doc comments.
fn schema() -> Value {
    let settings = SchemaSettings::default().with(|it| it.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().into()
}

/// Adds the settings of a section, those with a section of their own last.
fn describe(text: &mut String, path: &str, schema: &Value, defaults: &Table) -> Result<()> {
    if !path.is_empty() {
        write!(text, "\n## [{path}]\n\n{}\n", words(schema))?;
    }
    let own = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let settings: Vec<_> =
        defaults.iter().map(|(name, it)| (own(name), &schema["properties"][name], it)).collect();
    let (sections, settings): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|it| it.2.is_table());
    if !settings.is_empty() {
        text.push_str(
            "\n| setting | variable | type | default | |\n| --- | --- | --- | --- | --- |\n",
        );
    }
    for (path, schema, default) in &settings {
        let is_of_tables = entry(schema).is_some();
        let variable = if is_of_tables && schema["x-json"] != true {
            String::new()
        } else {
            format!("`{}`", variable(path))
        };
        let default = match default.as_array() {
            Some(tables) if is_of_tables && !tables.is_empty() => "below".to_owned(),
            _ => format!("`{default}`"),
        };
        let (kind, words) = (kind(schema), words(schema));
        writeln!(text, "| `{path}` | {variable} | {kind} | {default} | {words} |")?;
    }
    for (path, schema, default) in &settings {
        if let Some(entry) = entry(schema) {
            describe_entry(text, path, entry, default)?;
        }
    }
    for (path, schema, default) in sections {
        describe(text, &path, schema, default.as_table().unwrap_or(&Table::new()))?;
    }
    Ok(())
}

/// Adds what an entry of a list of tables has.
fn describe_entry(
    text: &mut String,
    path: &str,
    entry: &Value,
    default: &toml::Value,
) -> Result<()> {
    write!(text, "\n### [[{path}]]\n\n{}\n\n", words(entry))?;
    text.push_str("| setting | type | default | |\n| --- | --- | --- | --- |\n");
    for (name, schema) in entry["properties"].as_object().into_iter().flatten() {
        let default = schema.get("default").map_or(String::new(), |it| format!("`{it}`"));
        writeln!(text, "| `{name}` | {} | {default} | {} |", kind(schema), words(schema))?;
    }
    if default.as_array().is_some_and(|it| !it.is_empty()) {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let of_name = Table::from_iter([(name.to_owned(), default.clone())]);
        let whole = Table::from_iter([(section.to_owned(), of_name.into())]);
        write!(text, "\nBy default:\n\n```toml\n{}```\n", toml::to_string(&whole)?)?;
    }
    Ok(())
}

/// What the tables of a list are, if the setting is one.
fn entry(schema: &Value) -> Option<&Value> {
    schema.get("items").filter(|it| it["properties"].is_object())
}

/// The doc comment in a cell of a table, with that of each choice.
fn words(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let choices = [&schema["oneOf"], &schema["items"]["oneOf"]].map(Value::as_array);
    for choice in choices.into_iter().flatten().flatten() {
        let words = choice["description"].as_str().unwrap_or_default();
        _ = write!(text, "<br>`{}`: {words}", choice["const"]);
    }
    text.replace('|', "\\|")
}

fn kind(schema: &Value) -> String {
    let named = schema["format"].as_str().filter(|it| ["time", "size", "secret"].contains(it));
    match schema["type"].as_str() {
        _ if schema.get("oneOf").is_some() => "choice".to_owned(),
        Some("string") => named.unwrap_or("text").to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") if entry(schema).is_some() => "list of tables".to_owned(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => "table".to_owned(),
        other => other.unwrap_or("text").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting below `path`: its path and its schema, lists of tables with what their entries have.
    fn all(path: &str, schema: &Value) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for (name, schema) in schema["properties"].as_object().unwrap() {
            let path = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
            match entry(schema) {
                _ if schema["properties"].is_object() => found.extend(all(&path, schema)),
                Some(entry) => found.extend(all(&path, entry)),
                None => (),
            }
            found.push((path, schema.clone()));
        }
        found
    }

    #[test]
    fn every_setting_is_there_and_described() {
        let text = reference().unwrap();
        let all = all("", &schema());
        assert!(all.len() > 120, "{}", all.len());
        for (path, schema) in all {
            assert!(!words(&schema).is_empty(), "{path} has no doc comment");
            let name = path.rsplit_once('.').map_or("", |it| it.1);
            let is_there = ["`{path}`", "`{name}`", "## [{path}]"]
                .iter()
                .any(|it| text.contains(&it.replace("{path}", &path).replace("{name}", name)));
            assert!(is_there, "{path}");
        }
    }

    #[test]
    fn lists_are_lists_in_the_environment_too() {
        let lists = all("", &schema()).into_iter().filter(|(path, schema)| {
            schema["type"] == "array"
                && entry(schema).is_none()
                && !path.contains("auth.keys.")
                && !path.contains("policies.")
        });
        let mut lists: Vec<String> = lists.map(|it| it.0).collect();
        lists.sort();
        let mut known = super::super::LISTS;
        known.sort_unstable();
        assert_eq!(lists, known);
    }
}
