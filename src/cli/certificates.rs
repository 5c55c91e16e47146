//! `site show`, `site export-root` and `site certificate block`: the site's own certificates.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::admin::CertificateStatus;
use crate::app::{open_authority, store_place};
use crate::cert::issuer::RevocationReason;
use crate::cert::{CredentialFault, Facts, p7b};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::site_server::BundleFiles;
use crate::site::store::{Action, RoleCertificate, Store};
use crate::site::{Authority, AuthorityFacts, BlockError, BlockedCertificate, ShownKind};

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum RootFormat {
    #[default]
    Pem,
    Cer,
    P7b,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Revoke a certificate permanently: it is on the CRL at once, and the gateway that serves it
    /// gets a new one with a new key.
    Block {
        /// The site system, or a thumbprint, SHA-1 or SHA-256, as site show has them.
        #[arg(value_name = "NAME|THUMBPRINT")]
        which: String,
        /// The reason; written into the CRL.
        #[arg(long, value_parser = reason, value_name = "REASON")]
        reason: RevocationReason,
        #[command(flatten)]
        config: ConfigArg,
    },
}

fn reason(text: &str) -> Result<RevocationReason, String> {
    let known = RevocationReason::ALL.iter().find(|reason| reason.as_str() == text);
    let words = || RevocationReason::ALL.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ");
    known.copied().ok_or_else(|| format!("one of {}", words()))
}

#[derive(Serialize)]
struct IssuedRow {
    name: String,
    kind: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    certificate: CertificateStatus,
}

impl IssuedRow {
    fn of(shown: AuthorityFacts) -> Self {
        let (kind, name) = match shown.kind {
            ShownKind::Root => ("root", "SMS Issuing".to_owned()),
            ShownKind::Role => ("role", "SMS Role Signing".to_owned()),
            ShownKind::Leaf => {
                ("site-system", format!("SMS Role SSL Certificate of {}", shown.name))
            }
        };
        let certificate = CertificateStatus::new("site-issued", &shown.facts);
        IssuedRow { name, kind, state: shown.state.as_str(), reason: shown.reason, certificate }
    }
}

fn authority(config: &Config, provider: Arc<CryptoProvider>) -> anyhow::Result<Arc<Authority>> {
    super::is_own(config)?;
    let none = "this site issues no certificates (certificates = \"pki-only\")";
    open_authority(config, provider).context(none)
}

fn plain(fault: CredentialFault) -> anyhow::Error {
    anyhow::anyhow!("{fault}")
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let Command::Block { which, reason, config } = command;
    let config = match super::load(&config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    store::is_ours(&config.site.state.join(".lock"))?;
    let authority = authority(&config, provider)?;
    let blocked = store::with(&config, async |store: Store, now| {
        let blocked = match authority.block(&which, reason, now) {
            Err(BlockError::Unknown(_)) => {
                elsewhere(&store, &authority, &which, reason, now).await?
            }
            outcome => outcome?,
        };
        let detail = format!("{} of {}, {}", blocked.sha256, blocked.name, blocked.reason);
        store.record(Action::Blocked, "certificate", &detail, &store::actor(), now).await?;
        Ok(blocked)
    })?;
    let (name, sha256) = (&blocked.name, &blocked.sha256);
    anstream::eprintln!("blocked the certificate {sha256} of {name}");
    anstream::eprintln!("a running sitegate replaces it within seconds");
    Ok(ExitCode::SUCCESS)
}

/// Block a certificate of a gateway on another host, by its thumbprint: the gateway hears of it, and
/// asks for another one.
async fn elsewhere(
    store: &Store,
    authority: &Authority,
    which: &str,
    reason: RevocationReason,
    now: Timestamp,
) -> anyhow::Result<BlockedCertificate> {
    let plain = which.replace([':', ' '], "").to_ascii_uppercase();
    let known = store.role_certificates(now).await?.into_iter().find(|known| {
        let facts = Facts::of_pem(&known.certificate);
        facts.is_ok_and(|facts| facts.sha1 == plain || facts.sha256 == plain)
    });
    let known = known.ok_or_else(|| BlockError::Unknown(which.to_owned()))?;
    let name = format!("{} at {}", known.site_system, known.gateway);
    let blocked = authority.block_elsewhere(&name, &known.certificate, reason, now)?;
    store.block_role_certificate(&known.thumbprint, &store::actor(), now).await?;
    Ok(blocked)
}

/// The certificates that gateways on other hosts have, and what each is good for.
fn of_gateways(known: Vec<RoleCertificate>, rows: &[IssuedRow]) -> Vec<IssuedRow> {
    let latest = |one: &RoleCertificate| {
        let same = |other: &&RoleCertificate| {
            other.gateway == one.gateway && other.site_system == one.site_system
        };
        known.iter().rfind(same) == Some(one)
    };
    let row = |known: &RoleCertificate| {
        let facts = Facts::of_pem(&known.certificate).ok()?;
        // What is on a list of revoked ones has its row there.
        let is_listed = rows.iter().any(|row| row.certificate.thumbprint_sha256 == facts.sha256);
        let state = match (known.blocked.is_some(), latest(known)) {
            (true, _) => "blocked",
            (false, true) => "in force",
            (false, false) => "old",
        };
        (!is_listed).then(|| IssuedRow {
            name: format!("SMS Role SSL Certificate of {} at {}", known.site_system, known.gateway),
            kind: "site-system",
            state,
            reason: None,
            certificate: CertificateStatus::new("site-issued", &facts),
        })
    };
    known.iter().filter_map(row).collect()
}

pub(super) fn show(
    config: &ConfigArg,
    format: Format,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let config = match super::load(config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let now = Clock::system().now();
    let shown = authority(&config, provider)?.overview(now).map_err(plain)?;
    let mut rows: Vec<IssuedRow> = shown.into_iter().map(IssuedRow::of).collect();
    if store_place(&config)?.2 {
        let known = store::with_present(&config, async |store: Store, now: Timestamp| {
            Ok(store.role_certificates(now).await?)
        })?;
        rows.extend(of_gateways(known, &rows));
    }
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut text = String::new();
            for row in &rows {
                describe(&mut text, row, now)?;
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(text: &mut String, row: &IssuedRow, now: Timestamp) -> std::fmt::Result {
    write!(text, "{}: {}", row.name, row.state)?;
    match &row.reason {
        Some(reason) => writeln!(text, " ({reason})")?,
        None => text.push('\n'),
    }
    super::status::certificate_text(text, &row.certificate, now)
}

pub(super) fn export_root(
    config: &ConfigArg,
    format: RootFormat,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let config = match super::load(config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let pem = match &config.site_server {
        Some(_) => BundleFiles::new(&config.site.state)
            .roots()
            .context("this gateway has not reached its site server yet")?,
        None => authority(&config, provider)?.root_pem().map_err(plain)?,
    };
    let roots = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let bytes = match format {
        RootFormat::Pem => pem.into_bytes(),
        RootFormat::Cer => {
            if roots.len() > 1 {
                anstream::eprintln!(
                    "there are {} roots, and a .cer holds one: this is the one in force; \
                     --format p7b has all",
                    roots.len()
                );
            }
            roots.first().map(|der| der.to_vec()).context("there is no root")?
        }
        RootFormat::P7b => p7b(&roots),
    };
    let mut out = std::io::stdout();
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
