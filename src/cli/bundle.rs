//! `site bundle export`, `site bundle import`, `site bundle show`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::site_server::BundleFiles;
use crate::secret::{read_bounded, write_public};
use crate::site::store::Store;
use crate::token::{BUNDLE_BYTES_MAX, BundleKeys, BundleTrust, OpenedBundle};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Export the bundle in force, for a network that cannot reach the site server.
    Export {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Import an exported bundle on a gateway that has joined the site.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show what the bundle in force says, on a site server or on a gateway.
    Show {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Export { config } => export(config),
        Command::Import { file, config } => import(config, file),
        Command::Show { format, config } => show(config, *format),
    }
}

fn export(arg: &ConfigArg) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let text = in_force(&loaded.config)?;
    super::print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The bundle that is in force here: on a gateway the one it follows, else the site server's own.
fn in_force(config: &Config) -> anyhow::Result<String> {
    if config.site_server.is_some() {
        let kept = BundleFiles::new(&config.site.state);
        return kept.text().with_context(|| format!("{}: no bundle", kept.dir().display()));
    }
    let found = store::with_present(config, async |store: Store, _| Ok(store.bundle().await?))?;
    let found = found.context("there is no bundle yet; start the site server, which makes one")?;
    Ok(found.lines())
}

fn import(arg: &ConfigArg, file: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let config = &loaded.config;
    if config.site_server.is_none() {
        bail!(
            "this gateway follows no site server: there is no [site_server] in its configuration"
        );
    }
    let read = read_bounded(file, BUNDLE_BYTES_MAX as u64);
    let (bytes, _) = read.with_context(|| format!("{}", file.display()))?;
    let text = std::str::from_utf8(&bytes).context("this is no bundle")?.trim();
    let kept = BundleFiles::new(&config.site.state);
    let trust = kept.trust().context("this gateway has not joined a site yet")?;
    let keys = BundleKeys::of(&trust.keys);
    let judged = BundleTrust { site: &config.site.code, keys: &keys, version: trust.version };
    let opened = OpenedBundle::open(text, &judged)
        .map_err(|refusal| anyhow::anyhow!("rejected ({}): {refusal}", refusal.code()))?;
    if opened.head.version == trust.version {
        anstream::eprintln!("this bundle is in force already");
        return Ok(ExitCode::SUCCESS);
    }
    let path = kept.incoming();
    write_public(&path, text.as_bytes()).with_context(|| format!("{}", path.display()))?;
    anstream::eprintln!(
        "the bundle of {} is valid; the running gateway loads it at once, or the next start does",
        crate::clock::second(opened.head.issued)
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct BundleReport {
    site: String,
    version: u64,
    issued: Timestamp,
    expires: Timestamp,
    expired: bool,
    issuer: String,
    servers: Vec<String>,
    origins: Vec<String>,
    bundle_keys: Vec<String>,
    token_keys: usize,
    roots: usize,
    blocks: usize,
    certificates_blocked: usize,
}

fn show(arg: &ConfigArg, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let opened = OpenedBundle::peek(&in_force(&loaded.config)?).context("this is no bundle")?;
    let OpenedBundle { head, blocks } = opened;
    let settings = &head.settings;
    let now = Clock::system().now();
    let shown = BundleReport {
        version: head.version,
        issued: crate::clock::second(head.issued),
        expires: crate::clock::second(head.expires),
        expired: head.is_expired(now),
        bundle_keys: settings.keys().names().map(str::to_owned).collect(),
        token_keys: settings.token_keys.get("keys").and_then(|k| k.as_array()).map_or(0, Vec::len),
        roots: settings.roots.matches("BEGIN CERTIFICATE").count(),
        blocks: blocks.len(),
        certificates_blocked: settings.revoked.len(),
        site: settings.site.clone(),
        issuer: settings.issuer.clone(),
        servers: settings.servers.clone(),
        origins: settings.origins.clone(),
    };
    if format == Format::Json {
        super::print_json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    let state = if shown.expired { "expired" } else { "good" };
    writeln!(text, "Bundle {} of site {}", shown.version, shown.site)?;
    writeln!(text, "  made      {}", shown.issued)?;
    writeln!(text, "  until     {} ({state})", shown.expires)?;
    writeln!(text, "  issuer    {}", shown.issuer)?;
    writeln!(text, "  servers   {}", shown.servers.join(", "))?;
    writeln!(text, "  systems   {}", shown.origins.join(", "))?;
    writeln!(
        text,
        "  keys      {} of tokens, {} of bundles",
        shown.token_keys,
        shown.bundle_keys.len()
    )?;
    writeln!(text, "  roots     {}", shown.roots)?;
    writeln!(
        text,
        "  blocked   {} devices, users and tokens; {} certificates",
        shown.blocks, shown.certificates_blocked
    )?;
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
