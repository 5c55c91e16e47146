//! The shipped schema matches the program and the documentation, and accepts good configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use sitegate::config;

use crate::configuration::keys;
use crate::source::{files, read, root};

const SHIPPED: &str = "config/gateway.schema.json";

/// Keys with table values, which are documented under their own headings.
const TABLES: [&str; 5] = ["route", "role_backend", "backend_auth", "alt_auth", "plain_http"];

fn schema() -> Value {
    serde_json::from_str(&read(SHIPPED)).unwrap_or_else(|error| panic!("{SHIPPED}: {error}"))
}

/// Converts a configuration to JSON as editors do for a schema: times become text.
fn in_json(text: &str) -> Value {
    fn value(toml: toml::Value) -> Value {
        match toml {
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(items) => items.into_iter().map(value).collect(),
            toml::Value::Table(table) => table.into_iter().map(|(k, v)| (k, value(v))).collect(),
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(truth) => truth.into(),
        }
    }
    value(toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// Returns the schema's errors for a configuration.
fn faults(text: &str) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let told = |e: jsonschema::ValidationError<'_>| format!("{}: {e}", e.instance_path());
    validator.iter_errors(&in_json(text)).map(told).collect()
}

/// Returns the annotated configuration with all commented keys enabled.
fn with_every_key() -> String {
    let key = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == '2'));
        let after = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        (rest.starts_with('[') && rest.ends_with(']')) || after.starts_with(" = ")
    };
    let text = read("config/gateway.toml");
    let lines = text.lines().map(|line| {
        let bare = line.trim_start_matches('#').trim_start();
        if line.starts_with('#') && key(bare) { bare } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the properties of a section's tables, by name in the file: `site_system.route`.
fn tables(schema: &Value) -> BTreeMap<String, &Value> {
    fn collect<'a>(name: &str, table: &'a Value, found: &mut BTreeMap<String, &'a Value>) {
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            let inner = property.get("items").unwrap_or(property);
            if inner.get("properties").is_some() {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                found.insert(name.clone(), inner);
                collect(&name, inner, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    collect("", schema, &mut found);
    found
}

/// Returns the rows of docs/configuration.md: section, key, and the text under "Default".
fn documented() -> Vec<(String, String, String)> {
    let (mut sections, mut rows) = (Vec::new(), Vec::new());
    for line in read("docs/configuration.md").lines() {
        if line.starts_with('#') {
            sections = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let mut cells = row.split(" | ");
        let (key, default) = (cells.next().unwrap(), cells.next().unwrap());
        for section in &sections {
            let section = section.trim_matches(['[', ']']).to_owned();
            rows.push((section, key.trim_end_matches('`').to_owned(), default.to_owned()));
        }
    }
    rows
}

#[test]
fn the_shipped_schema_is_what_the_program_writes() {
    let out = Command::new(env!("CARGO_BIN_EXE_sitegate")).arg("schema").output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let written = String::from_utf8(out.stdout).unwrap();
    if std::env::var_os("SITEGATE_UPDATE").is_some() {
        std::fs::write(root().join(SHIPPED), &written).unwrap();
    }
    assert!(
        written == read(SHIPPED),
        "{SHIPPED} is not the program's; write it anew with SITEGATE_UPDATE=1"
    );
    jsonschema::meta::validate(&schema()).unwrap();
}

#[test]
fn every_shipped_configuration_is_valid_by_the_schema() {
    for path in files("config", &["toml"]) {
        let text = read(&path);
        assert_eq!(text.lines().next(), Some("#:schema ./gateway.schema.json"), "{path}");
        assert_eq!(faults(&text), [""; 0], "{path}");
    }
    let all = with_every_key();
    assert_eq!(faults(&all), [""; 0]);
    for key in keys() {
        let begins = |line: &str| line.starts_with(&format!("{key} = "));
        let table = TABLES.contains(&&*key);
        assert!(table || all.lines().any(begins), "{key} is not among what was judged");
    }
}

#[test]
fn what_sitegate_accepts_is_good_by_the_schema() {
    let text = read("config/gateway.toml");
    for (line, other) in [
        ("header_time = \"20s\"", "header_time = \" 20 s \""),
        ("header_bytes = \"64KiB\"", "header_bytes = 65536"),
        ("uri_bytes = \"16KiB\"", "uri_bytes = \"16384\""),
        ("uri_bytes = \"16KiB\"", "uri_bytes = \"16 KiB\""),
        ("listen = \"0.0.0.0:443\"", "listen = \"[::]:443\""),
        ("backend = \"http://127.0.0.1:80\"", "backend = \"unix:/run/backend.sock\""),
        ("mode = \"enforce\"", "mode = \"observe\"\nobserve_until = 2000-01-01 00:00:00.5+01:00"),
        (
            "roles = [\"management-point\", \"distribution-point\"]",
            "route = [{path = \"/\", require = \"user\"}]",
        ),
    ] {
        let changed = text.replacen(line, other, 1);
        assert_ne!(changed, text, "{line}");
        let now = sitegate::clock::Clock::system().now();
        if let Err(errors) = config::parse(&changed, "changed", &root().join("config"), now) {
            panic!("{other}: {errors}");
        }
        assert_eq!(faults(&changed), [""; 0], "{other}");
    }
}

#[test]
fn mistakes_are_found_where_they_are() {
    let text = with_every_key();
    for (line, mistake, place) in [
        ("[metrics]", "[metricks]", ""),
        ("threads = 0", "thread = 0", "/limits"),
        ("http2 = true", "http_2 = true", "/site_system/0"),
        ("path = \"/reports/\"", "paths = \"/reports/\"", "/site_system/0/route/0"),
        ("code = \"PS1\"", "code = \"TOOLONG\"", "/site/code"),
        ("threads = 0", "threads = \"0\"", "/limits/threads"),
        ("connections = 20000", "connections = 0", "/limits/connections"),
        ("drain_time = \"10m\"", "drain_time = \"10 minutes\"", "/limits/drain_time"),
        ("drain_time = \"10m\"", "drain_time = 600", "/limits/drain_time"),
        ("header_bytes = \"64KiB\"", "header_bytes = \"64KB\"", "/limits/header_bytes"),
        ("header_bytes = \"64KiB\"", "header_bytes = -1", "/limits/header_bytes"),
        ("certificates = \"enhanced\"", "certificates = \"pki_only\"", "/site/certificates"),
        ("mode = \"enforce\"", "mode = \"off\"", "/site_system/0/mode"),
        ("\"distribution-point\"", "\"distribution-pont\"", "/site_system/0/roles/1"),
        ("require = \"user\"", "require = \"users\"", "/site_system/0/route/0/require"),
        (
            "purposes = [\"client\"]",
            "purposes = [\"clients\"]",
            "/site_system/0/route/0/purposes/0",
        ),
        (
            "observe_until = 2026-12-31T00:00:00Z",
            "observe_until = 2026-12-31",
            "/site_system/0/observe_until",
        ),
        ("cleartext = \"accepted\"", "cleartext = \"yes\"", "/site_system/0/cleartext"),
        ("keys = \"entra-jwks.json\"", "keys = [1]", "/token_issuer/0/keys"),
        ("kind = \"entra\"", "kind = \"azure\"", "/token_issuer/0/kind"),
        ("listen = \"0.0.0.0:443\"", "", "/site_system/0"),
    ] {
        let changed = text.replacen(&format!("\n{line}"), &format!("\n{mistake}"), 1);
        let changed = if changed == text { text.replacen(line, mistake, 1) } else { changed };
        assert_ne!(changed, text, "{line}");
        let faults = faults(&changed);
        assert!(
            faults.iter().any(|f| f.starts_with(&format!("{place}: "))),
            "{mistake}: {faults:?}"
        );
    }
}

#[test]
fn every_key_is_in_the_schema_with_a_description() {
    let schema = schema();
    let tables = tables(&schema);
    let mut found = BTreeSet::new();
    for (section, table) in &tables {
        assert_eq!(table["additionalProperties"], false, "{section}");
        for (key, property) in table["properties"].as_object().unwrap() {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.len() > 10, "{section}.{key} says nothing: '{description}'");
            found.insert(key.clone());
        }
    }
    assert_eq!(found, keys());
    for (section, _) in schema["properties"].as_object().unwrap() {
        assert!(tables.contains_key(section), "{section}");
    }
}

#[test]
fn the_schema_and_the_documentation_agree() {
    let schema = schema();
    let tables = tables(&schema);
    let mut left: BTreeSet<(String, String)> = BTreeSet::new();
    for (section, table) in &tables {
        for key in table["properties"].as_object().unwrap().keys() {
            left.insert((section.clone(), key.clone()));
        }
    }
    // Keys that are tables have headings.
    left.retain(|(_, key)| !TABLES.contains(&key.as_str()));
    for (section, key, told) in documented() {
        assert!(
            left.remove(&(section.clone(), key.clone())),
            "{section}.{key} is not in the schema"
        );
        let table = tables[&section];
        let required = table["required"].as_array().into_iter().flatten().any(|r| *r == *key);
        assert_eq!(told == "required", required, "{section}.{key}: required?");
        let value = told.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let value = value.filter(|value| !value.contains('`'));
        let default = value.map(|value| in_json(&format!("x = {value}"))["x"].clone());
        assert_eq!(table["properties"][&key].get("default"), default.as_ref(), "{section}.{key}");
    }
    assert!(left.is_empty(), "docs/configuration.md has no row for {left:?}");
}

#[test]
fn the_schema_has_the_defaults_of_the_annotated_configuration() {
    let (schema, annotated) = (schema(), in_json(&read("config/gateway.toml")));
    let mut compared = 0;
    for (section, table) in tables(&schema) {
        let Some(typed) = annotated.get(&section) else { continue };
        let typed = typed.get(0).unwrap_or(typed);
        for (key, property) in table["properties"].as_object().unwrap() {
            if let (Some(default), Some(value)) = (property.get("default"), typed.get(key)) {
                assert_eq!(default, value, "{section}.{key}");
                compared += 1;
            }
        }
    }
    assert!(compared > 25, "{compared}");
}
