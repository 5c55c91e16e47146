//! The shipped configurations load, and the annotated one shows every key with its default.

use std::collections::BTreeSet;

use sitegate::config::{self, ConfigCode, KeyDeclaration, Limits, Loaded, in_toml};

use crate::source::{files, read, root};

/// The minimal configuration, in the form of the annotated one.
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

/// The sections whose text is generated from the declarations of their keys.
const DECLARED: [(&str, &[KeyDeclaration]); 1] = [("limits", Limits::KEYS)];

/// Returns the rows of a section in docs/configuration.md.
fn reference(keys: &[KeyDeclaration]) -> String {
    let row = |key: &KeyDeclaration| {
        let default = key.default.map_or("none".to_owned(), |text| format!("`{}`", in_toml(text)));
        format!("| `{}` | {default} | {} |\n", key.name, key.paragraphs().join(" "))
    };
    format!(
        "| Key | Default | Meaning |\n|---|---|---|\n{}",
        keys.iter().map(row).collect::<String>()
    )
}

/// Returns the lines of a section in the annotated configuration.
fn annotated(keys: &[KeyDeclaration]) -> String {
    let mut text = String::new();
    for key in keys {
        let mut line = "#".to_owned();
        let first = key.paragraphs().into_iter().next().unwrap_or_default();
        for word in first.split_whitespace() {
            if line.len() + 1 + word.len() > 100 {
                text += &format!("{line}\n");
                line = "#".to_owned();
            }
            line += &format!(" {word}");
        }
        text += &format!("{line}\n");
        text += &match (key.default, key.example) {
            (Some(value), _) => format!("{} = {}\n", key.name, in_toml(value)),
            (None, example) => format!("#{} = {}\n", key.name, in_toml(example.unwrap_or("0"))),
        };
    }
    text
}

/// Replaces what follows a heading, up to the next one.
fn with_section(text: &str, heading: &str, begins: &str, section: &str) -> String {
    let (before, after) =
        text.split_once(heading).unwrap_or_else(|| panic!("{heading} is missing"));
    let rest = after.find(begins).map_or("", |at| &after[at..]);
    format!("{before}{heading}{section}{rest}")
}

/// With SITEGATE_UPDATE=1, writes the files anew.
#[test]
fn declared_keys_are_documented_as_declared() {
    for (path, heading, begins, section) in [
        (
            "docs/configuration.md",
            "## `[NAME]`\n\n",
            "\n## ",
            reference as fn(&[KeyDeclaration]) -> String,
        ),
        ("config/gateway.toml", "\n[NAME]\n", "\n[", annotated),
    ] {
        let mut text = read(path);
        for (name, keys) in DECLARED {
            let heading = heading.replace("NAME", name);
            text = with_section(&text, &heading, begins, &section(keys));
        }
        if std::env::var_os("SITEGATE_UPDATE").is_some() {
            std::fs::write(root().join(path), &text).unwrap();
        }
        assert!(text == read(path), "{path}: write it anew with SITEGATE_UPDATE=1");
    }
}

fn now() -> jiff::Timestamp {
    sitegate::clock::Clock::system().now()
}

fn parsed(text: &str, name: &str) -> Loaded {
    match config::parse(text, name, &root().join("config"), now()) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

/// The loaded configuration as text, for comparison.
fn in_words(loaded: &Loaded) -> String {
    format!("{:#?}", loaded.config)
}

/// The keys of the file's sections, from the types that parse them.
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
    let declared = DECLARED.iter().flat_map(|(_, keys)| *keys);
    keys.into_iter().chain(declared.map(|key| key.name.to_owned())).collect()
}

#[test]
fn every_shipped_configuration_loads_without_a_warning() {
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
fn the_annotated_configuration_states_the_defaults() {
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
fn every_key_is_annotated_and_documented() {
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
