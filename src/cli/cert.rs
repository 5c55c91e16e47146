//! `cert`: certificates as files and as what would be served of them, without anything running.
//!
//! Writes nothing but what `import` is asked to, and never shows a key.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use zeroize::Zeroizing;

use super::wrap::{hanging, when};
use super::{ConfigArg, Format};
use crate::admin::CertificateStatus;
use crate::app::{Examined, Examiner};
use crate::cert::{Anchors, Credential, Expectation, Facts, Source, faults, pfx};
use crate::clock::Clock;
use crate::config::{Config, SiteSystem};
use crate::control::{PFX_MAX, pfx_names};
use crate::os::{self, FileOwner};
use crate::secret::{Password, PasswordSource, read_bounded, write_private_for};

const FILE_BYTES_MAX: u64 = 1024 * 1024;
const INDENT: usize = 14;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Without {
    /// As if no PKI folder were configured.
    Pki,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which certificate each site system would serve from the files as they are.
    List {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show which certificate each site system would serve at another time.
    WhatIf {
        /// The time, with an offset from UTC.
        #[arg(long, value_name = "TIME")]
        at: Timestamp,
        /// What to leave out.
        #[arg(long, value_enum)]
        without: Option<Without>,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show the certificates in a file: PEM, DER or PFX. If it has a key, also whether it is fit
    /// for each site system.
    Show {
        /// The file.
        file: PathBuf,
        /// The password of a PFX: file:PATH or env:NAME [default: an empty password].
        #[arg(long, value_name = "SOURCE", value_parser = source)]
        password: Option<PasswordSource>,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Make a key and a certificate request (CSR) for your PKI, or a request file (INF) for
    /// certreq.
    Csr(super::csr::Args),
    /// Import a PFX into the PKI folder of a site system, if it is fit. sitegate serves it without
    /// a restart.
    Import {
        /// The file; its password must be the site system's pki_password.
        file: PathBuf,
        /// The site system.
        #[arg(long, value_name = "NAME")]
        site_system: String,
        #[command(flatten)]
        config: ConfigArg,
    },
}

fn source(text: &str) -> Result<PasswordSource, String> {
    match text.split_once(':') {
        Some(("file", path)) => Ok(PasswordSource::File(path.into())),
        Some(("env", name)) => Ok(PasswordSource::Env(name.to_owned())),
        _ => Err("file:PATH or env:NAME; do not pass the password itself".to_owned()),
    }
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { format, config } => served(&config, None, false, format, provider),
        Command::WhatIf { at, without, format, config } => {
            served(&config, Some(at), without.is_some(), format, provider)
        }
        Command::Show { file, password, format, config } => {
            show(&file, password, format, &config, provider)
        }
        Command::Csr(args) => super::csr::run(&args),
        Command::Import { file, site_system, config } => {
            import(&file, &site_system, &config, provider)
        }
    }
}

#[derive(Serialize)]
struct CredentialRow {
    site_system: String,
    at: Timestamp,
    certificate: Option<CertificateStatus>,
    notes: Vec<String>,
    wrong: Vec<String>,
}

/// Chosen by whoever chooses when it runs, by a clock that stands at that time.
fn served(
    config: &ConfigArg,
    at: Option<Timestamp>,
    without_pki: bool,
    format: Format,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let mut config = match super::load(config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let at = at.unwrap_or_else(|| Clock::system().now());
    let examiner = Examiner::new(provider, Clock::manual(at).0);
    for system in config.site_systems.iter_mut().filter(|_| without_pki) {
        system.pki = None;
    }
    let row = |system: &SiteSystem| {
        let Examined { certificate, notes, wrong, .. } = examiner.certificate(system, &config);
        CredentialRow { site_system: system.name.clone(), at, certificate, notes, wrong }
    };
    let rows: Vec<CredentialRow> = config.site_systems.iter().map(row).collect();
    let good = rows.iter().all(|row| row.wrong.is_empty());
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut out = String::new();
            for row in &rows {
                let CredentialRow { site_system, certificate, notes, wrong, .. } = row;
                match certificate {
                    Some(certificate) => {
                        writeln!(out, "{site_system}: serves {} at {at}", certificate.source)?;
                        out.push_str(&described(certificate, at));
                    }
                    None => writeln!(out, "{site_system}, at {at}")?,
                }
                notes.iter().for_each(|note| out.push_str(&hanging("  note", note, INDENT)));
                wrong.iter().for_each(|wrong| out.push_str(&hanging("  WRONG", wrong, INDENT)));
            }
            super::print(&out)?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

fn described(certificate: &CertificateStatus, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| out.push_str(&hanging(name, text, INDENT));
    line("  subject", &certificate.subject);
    line("  issuer", &certificate.issuer);
    if !certificate.names.is_empty() {
        line("  names", &certificate.names.join(", "));
    }
    line("  key", &certificate.key);
    line("  valid from", &when(certificate.not_before, now));
    line("  valid to", &when(certificate.not_after, now));
    line("  thumbprint", &certificate.thumbprint);
    line("  SHA-256", &certificate.thumbprint_sha256);
    out
}

#[derive(Serialize)]
struct Fitness {
    site_system: String,
    fit: bool,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct ServedCertificate {
    certificates: Vec<CertificateStatus>,
    usages: Vec<String>,
    has_key: bool,
    fitness: Vec<Fitness>,
}

/// What a file holds: certificates, and with a key the credential and its roots.
struct Contents {
    /// What was read, if it is a PFX: what is judged is what is written.
    pfx: Option<Zeroizing<Vec<u8>>>,
    chain: Vec<CertificateDer<'static>>,
    credential: Option<(Credential, Option<Anchors>)>,
}

fn contents(
    path: &Path,
    password: Option<&PasswordSource>,
    provider: &CryptoProvider,
) -> anyhow::Result<Contents> {
    let shown = || path.display().to_string();
    let (bytes, _) = read_bounded(path, FILE_BYTES_MAX).with_context(shown)?;
    let chain = crate::pem::certificates(&bytes).with_context(shown)?;
    let is_pem = bytes.windows(10).any(|window| window == b"-----BEGIN");
    if !is_pem && chain.is_empty() {
        let password = password.map_or_else(
            || Ok(Password::empty()),
            |source| Password::read(source).map(|(password, _)| password),
        )?;
        let opened = pfx::open(&bytes, password.reveal(), Source::Pki, provider);
        let opened = opened.map_err(|fault| anyhow::anyhow!("{fault}. {}", fault.unfit.hint()));
        let opened = opened.with_context(shown)?;
        let chain = opened.credential.chain().to_vec();
        let credential = Some((opened.credential, opened.anchors));
        return Ok(Contents { pfx: Some(bytes), chain, credential });
    }
    if let Ok(credential) = Credential::parse(&bytes, None, Source::Pki, provider) {
        return Ok(Contents {
            pfx: None,
            chain: credential.chain().to_vec(),
            credential: Some((credential, None)),
        });
    }
    Ok(Contents { pfx: None, chain, credential: None })
}

fn system_roots() -> Anchors {
    Anchors::lenient(rustls_native_certs::load_native_certs().certs.iter())
}

/// What is wrong with a credential for a site system, judged as its folder would be.
fn unfit_for(
    system: &SiteSystem,
    (credential, own): &(Credential, Option<Anchors>),
    roots: &Anchors,
    provider: &CryptoProvider,
    now: Timestamp,
) -> Vec<String> {
    let beside = system.pki.as_ref().map(|pki| pki.path.join(&pki.ca)).filter(|ca| ca.exists());
    let beside = beside.map(|ca| {
        let (pem, _) = read_bounded(&ca, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
        Anchors::from_pem(&pem).map_err(|fault| format!("{}: {fault}", ca.display()))
    });
    let beside = match beside.transpose() {
        Ok(beside) => beside.filter(|anchors| !anchors.is_empty()),
        Err(why) => return vec![why],
    };
    let hosts: Vec<ServerName<'static>> =
        system.hosts.iter().filter_map(|host| ServerName::try_from(host.clone()).ok()).collect();
    let anchors = beside.as_ref().or(own.as_ref()).unwrap_or(roots);
    let process_more = system.pki.as_ref().is_some_and(|pki| pki.process_more);
    let anchors = &anchors.clone().processing_more(process_more);
    let expected = Expectation { hosts: &hosts, anchors, provider };
    faults(credential, &expected, now).iter().map(ToString::to_string).collect()
}

fn show(
    path: &Path,
    password: Option<PasswordSource>,
    format: Format,
    config: &ConfigArg,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let now = Clock::system().now();
    let found = contents(path, password.as_ref(), &provider)?;
    let facts = found.chain.iter().filter_map(|der| Facts::of(der).ok());
    let facts: Vec<Facts> = facts.collect();
    ensure!(!facts.is_empty(), "{}: it holds no certificate", path.display());
    let systems = if config.config.exists() {
        match super::load(config) {
            Ok(loaded) => loaded.config.site_systems,
            Err(code) => return Ok(code),
        }
    } else {
        Vec::new()
    };
    let roots = system_roots();
    let fitness = found.credential.iter().flat_map(|credential| {
        let (roots, provider) = (&roots, &provider);
        systems.iter().map(move |system| {
            let faults = unfit_for(system, credential, roots, provider, now);
            Fitness { site_system: system.name.clone(), fit: faults.is_empty(), faults }
        })
    });
    let seen = ServedCertificate {
        fitness: fitness.collect(),
        certificates: facts.iter().map(|facts| CertificateStatus::new("file", facts)).collect(),
        usages: facts.first().map(|facts| facts.usages.clone()).unwrap_or_default(),
        has_key: found.credential.is_some(),
    };
    let unfit = !seen.fitness.is_empty() && seen.fitness.iter().all(|of| !of.fit);
    let code = if unfit { ExitCode::from(super::FAILED) } else { ExitCode::SUCCESS };
    if let Format::Json = format {
        super::print_json(&seen)?;
        return Ok(code);
    }
    let mut out = String::new();
    for (n, certificate) in seen.certificates.iter().enumerate() {
        out.push_str(if n == 0 { "the certificate\n" } else { "above it\n" });
        out.push_str(&described(certificate, now));
        if n == 0 && !seen.usages.is_empty() {
            out.push_str(&hanging("  for", &seen.usages.join(", "), INDENT));
        }
    }
    out.push_str(if seen.has_key { "its key is in the file\n" } else { "no key is in the file\n" });
    for Fitness { site_system, faults, .. } in &seen.fitness {
        if faults.is_empty() {
            writeln!(out, "fit for {site_system}")?;
        } else {
            writeln!(out, "NOT fit for {site_system}")?;
        }
        faults.iter().for_each(|fault| out.push_str(&super::wrap::wrapped(fault, 2)));
    }
    super::print(&out)?;
    Ok(code)
}

/// The user who imports is often root, and sitegate is not: the file belongs to the owner of the
/// state directory, or else of the folder.
fn owner(config: &Config, folder: &Path) -> anyhow::Result<FileOwner> {
    os::owner(&config.site.state)
        .or_else(|_| os::owner(folder))
        .with_context(|| folder.display().to_string())
}

fn import(
    path: &Path,
    name: &str,
    config: &ConfigArg,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let config: Config = match super::load(config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let system = config.site_systems.iter().find(|system| system.name == name);
    let system = system.with_context(|| format!("there is no site system {name}"))?;
    let pki = system.pki.as_ref().with_context(|| format!("{name} has no pki folder"))?;
    let found = contents(path, pki.password.as_ref(), &provider)
        .context("sitegate opens it with the site system's pki_password, or without a password")?;
    let Some(credential) = found.credential else { bail!("{}: no key is in it", path.display()) };
    let Some(bytes) = found.pfx else {
        bail!("this is for PFX files; write PEM as {} and {}", pki.certificate, pki.key)
    };
    let now = Clock::system().now();
    let wrong = unfit_for(system, &credential, &system_roots(), &provider, now);
    if !wrong.is_empty() {
        anstream::eprintln!("sitegate: it is not fit for {name}, and was not imported:");
        wrong.iter().for_each(|fault| anstream::eprintln!("  {fault}"));
        return Ok(ExitCode::from(super::FAILED));
    }
    let to = pki.path.join(format!("{}.pfx", credential.0.facts().sha1));
    let full = pfx_names(&pki.path).map_or(0, |names| names.len()) >= PFX_MAX;
    ensure!(
        !full || to.exists(),
        "{} holds {PFX_MAX} PFX files, the maximum; further ones are ignored",
        pki.path.display()
    );
    let given = write_private_for(&to, &bytes, owner(&config, &pki.path)?);
    if let Err(error) = given.with_context(|| to.display().to_string())? {
        anstream::eprintln!(
            "sitegate: {} still belongs to you ({error}); make it readable for the service's user",
            to.display()
        );
    }
    anstream::eprintln!(
        "imported as {}; a running sitegate loads it without a restart",
        to.display()
    );
    Ok(ExitCode::SUCCESS)
}
