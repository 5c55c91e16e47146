//! The shipped configurations load, and the annotated one shows every key with its default.

use std::collections::BTreeSet;

use sitegate::config::{self, ConfigCode, Loaded};

use crate::source::{files, read, root};

/// What a configuration must have at least, in the words of the annotated one.
const LEAST: &str = r#"
[site]
code = "PS1"
[[site_system]]
name = "mp01"
roles = ["management-point", "distribution-point"]
listen = "0.0.0.0:443"
hosts = ["mp01.contoso.com"]
backend = "http://127.0.0.1:80"
"#;

fn now() -> jiff::Timestamp {
    sitegate::clock::Clock::system().now()
}

fn parsed(text: &str, name: &str) -> Loaded {
    match config::parse(text, name, &root().join("config"), now()) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

/// What is compared of a configuration: all of it, in words.
fn in_words(loaded: &Loaded) -> String {
    format!("{:#?}", loaded.config)
}

/// The keys of the file's sections, from the types that read them.
pub fn keys() -> BTreeSet<String> {
    let text = read("src/config/file.rs") + &read("src/config/file/tables.rs");
    let field = |line: &str| {
        let line = line.trim();
        let field = line.strip_prefix("pub(super) ");
        let field = field.or_else(|| line.strip_prefix("pub(in crate::config) "))?;
        let (name, kind) = field.split_once(": ")?;
        (kind.starts_with("Typed<") || kind.starts_with("Option<")).then(|| name.to_owned())
    };
    let keys: BTreeSet<String> = text.lines().filter_map(field).collect();
    assert!(keys.len() > 40, "only {} keys found in src/config/file.rs", keys.len());
    keys
}

#[test]
fn every_shipped_configuration_loads_without_an_error_or_a_warning() {
    let all = files("config", &["toml"]);
    assert!(all.len() >= 7, "{all:?}");
    for path in all {
        match config::load(&root().join(&path), now()) {
            Ok(loaded) => assert!(loaded.warnings.errors.is_empty(), "{}", loaded.warnings),
            Err(errors) => panic!("{errors}"),
        }
    }
}

#[test]
fn the_annotated_configuration_says_what_holds_without_it() {
    let annotated = in_words(&parsed(&read("config/gateway.toml"), "config/gateway.toml"));
    let least = in_words(&parsed(LEAST, "the least"));
    for (ours, default) in annotated.lines().zip(least.lines()) {
        assert_eq!(ours, default, "config/gateway.toml is not the default here");
    }
    assert_eq!(annotated.lines().count(), least.lines().count());
}

#[test]
fn a_default_that_is_written_wrongly_is_found() {
    let text = read("config/gateway.toml");
    for (default, other) in [
        ("threads = 0", "threads = 3"),
        ("drain_time = \"10m\"", "drain_time = \"9m\""),
        ("http2 = true", "http2 = false"),
        ("listen = \"127.0.0.1:9181\"", "listen = \"127.0.0.1:9182\""),
        ("backend_idle_time = \"55s\"", "backend_idle_time = \"54s\""),
        ("authority_key = \"p256\"", "authority_key = \"rsa2048\""),
    ] {
        assert!(text.contains(default), "{default}");
        let changed = in_words(&parsed(&text.replace(default, other), "changed"));
        assert_ne!(changed, in_words(&parsed(LEAST, "the least")), "{other}");
    }
}

#[test]
fn the_keys_that_are_commented_out_load_too() {
    let text = read("config/gateway.toml");
    let key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| key(rest)).unwrap_or(line))
        .collect();
    let loaded = parsed(&uncommented.join("\n"), "config/gateway.toml, uncommented");
    assert_eq!(loaded.config.issuers.len(), 2, "the site's own issuer and entra");
    assert!(loaded.warnings.errors.is_empty(), "{}", loaded.warnings);
}

#[test]
fn every_key_is_in_the_annotated_configuration_and_in_its_documentation() {
    let (annotated, documented) = (read("config/gateway.toml"), read("docs/configuration.md"));
    let shown = |key: &str| {
        annotated.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
                || line == format!("[[site_system.{key}]]")
                || line == format!("[site_system.{key}]")
        })
    };
    for key in keys() {
        assert!(shown(&key), "config/gateway.toml lacks {key}");
        let row = format!("| `{key}` |");
        let headings = [format!("`[[site_system.{key}]]`"), format!("`[site_system.{key}]`")];
        assert!(
            documented.contains(&row) || headings.iter().any(|h| documented.contains(h)),
            "docs/configuration.md lacks a row '{row}'"
        );
    }
}

#[test]
fn the_documentation_has_no_key_that_does_not_exist() {
    let keys = keys();
    for line in read("docs/configuration.md").lines() {
        let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) else {
            continue;
        };
        let is_code = ConfigCode::ALL.iter().any(|code| code.as_str() == key);
        assert!(is_code || keys.contains(key), "docs/configuration.md: there is no key '{key}'");
    }
}
