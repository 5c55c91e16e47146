//! `config diff`: what another file would change, before it is put in place.
//!
//! Both files have to be good. Says what takes a restart by the same function that a reload asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use toml::Value;

use super::{ConfigArg, Format};
use crate::app::{Examiner, only_at_start};
use crate::clock::Clock;
use crate::config;
use crate::secret::read_bounded;

const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file that would replace the configuration.
    new: PathBuf,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Serialize)]
struct Difference {
    key: String,
    /// As it is written now; nothing where it is not.
    old: Option<String>,
    /// As it would be written.
    new: Option<String>,
    /// `reload`: in force once the file is in place. `restart`: not before the next start.
    takes: &'static str,
}

/// The same for scripts.
#[derive(Serialize)]
struct DiffReport<'a> {
    keys: &'a [Difference],
    /// What differs that only a restart changes, whether by a key of its own or by another.
    restart: &'a [&'static str],
    /// Why a reload would refuse it.
    unserved: &'a [String],
}

pub(super) fn run(args: &Args, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let old = match super::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    // Relative paths mean what they will once the file is in its place.
    let base = args.config.config.parent().unwrap_or(Path::new("."));
    let shown = args.new.display().to_string();
    let typed = text_of(&args.new)?;
    let new = match config::parse(&typed, &shown, base, Clock::system().now()) {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            super::tell(&errors);
            return Ok(ExitCode::from(super::BAD_CONFIG));
        }
    };
    let fixed = only_at_start(&old, &new);
    let (before, after) = (keys(&text_of(&args.config.config)?)?, keys(&typed)?);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let rows: Vec<Difference> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Difference {
            key: name.clone(),
            old: before.get(name).cloned(),
            new: after.get(name).cloned(),
            takes: if is_fixed(name, &fixed) { "restart" } else { "reload" },
        })
        .collect();
    let unserved = Examiner::new(provider, Clock::system()).unserved(&old, &new);
    match args.format {
        Format::Json => {
            super::print_json(&DiffReport { keys: &rows, restart: &fixed, unserved: &unserved })?;
        }
        Format::Text => super::print(&text(&rows, &fixed, &unserved))?,
    }
    Ok(if unserved.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// Whether a key is part of something that is fixed at the start, and differs.
fn is_fixed(key: &str, fixed: &[&str]) -> bool {
    fixed.iter().any(|what| {
        let stem = what.trim_start_matches('[').trim_end_matches(']');
        let within =
            key.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        // "token_service of the first site system" is a key of every site system.
        let of_systems = stem.split_once(" of ").is_some_and(|(name, _)| {
            key.starts_with("site_system") && key.rsplit('.').next() == Some(name)
        });
        within || of_systems
    })
}

fn text(rows: &[Difference], fixed: &[&str], unserved: &[String]) -> String {
    let mut text = String::new();
    for Difference { key, old, new, takes } in rows {
        let _ = writeln!(text, "{key} ({takes})");
        for (sign, value) in [("-", old), ("+", new)] {
            if let Some(value) = value {
                let _ = writeln!(text, "  {sign} {value}");
            }
        }
    }
    if rows.is_empty() {
        text.push_str("No key differs.\n");
    }
    for why in unserved {
        let _ = writeln!(text, "A reload would refuse this file: {why}");
    }
    if !fixed.is_empty() {
        // Some follow from keys elsewhere, such as the name of the site's tokens from the first host.
        let _ = writeln!(text, "Only a restart changes: {}.", fixed.join(", "));
        text.push_str("A reload refuses a file with such a change as a whole.\n");
    } else if !rows.is_empty() && unserved.is_empty() {
        text.push_str("A reload applies all of it as soon as the file is in place.\n");
    }
    text
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let shown = || path.display().to_string();
    let (bytes, _) = read_bounded(path, FILE_BYTES_MAX).with_context(shown)?;
    String::from_utf8(bytes.to_vec()).context("it is not UTF-8 text").with_context(shown)
}

/// Every key of a file by its place; tables that stand in lists by their names.
fn keys(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let table: toml::Table = text.trim_start_matches('\u{feff}').parse()?;
    let mut found = BTreeMap::new();
    collect("", &Value::Table(table), &mut found);
    Ok(found)
}

fn collect(at: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                collect(&at, value, found);
            }
        }
        Value::Array(tables) if tables.iter().any(Value::is_table) => {
            let mut seen = BTreeMap::new();
            for (n, table) in tables.iter().enumerate() {
                let named =
                    ["name", "path", "role"].iter().find_map(|key| table.get(key)?.as_str());
                let named = named.map_or_else(|| (n + 1).to_string(), str::to_owned);
                let twice = seen.entry(named.clone()).and_modify(|times| *times += 1).or_insert(1);
                let which = if *twice > 1 { format!(", {twice}") } else { String::new() };
                collect(&format!("{at}[{named}{which}]"), table, found);
            }
        }
        plain => {
            found.insert(at.to_owned(), plain.to_string());
        }
    }
}
