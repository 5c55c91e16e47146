//! `cert csr`: a request for a PKI's certificate, or what Windows' `certreq` makes one from.
//!
//! The key is written where it is said, for its owner alone, and never over another.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use rustls_pki_types::ServerName;

use super::ConfigArg;
use crate::cert::issuer::CertAlgorithm;
use crate::cert::request::server_request;
use crate::secret::write_new_private;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CsrKey {
    /// RSA of 2048 bits, which every Windows takes.
    Rsa2048,
    /// ECDSA on P-256: small and fast.
    P256,
}

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The site system whose hosts the certificate is for.
    #[arg(long, value_name = "NAME")]
    site_system: String,
    /// Where the key is written; it must not be there yet.
    #[arg(long, value_name = "FILE", required_unless_present = "inf")]
    key: Option<PathBuf>,
    /// The type of the key.
    #[arg(long, value_enum, default_value = "rsa2048")]
    algorithm: CsrKey,
    /// Write the INF file for certreq -new on Windows, which makes and keeps the key; no key is
    /// made here.
    #[arg(long, conflicts_with_all = ["key", "algorithm"])]
    inf: bool,
    /// The certificate template, for --inf.
    #[arg(long, value_name = "NAME", default_value = "WebServer", requires = "inf")]
    template: String,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match super::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let name = &args.site_system;
    let system = config.site_systems.iter().find(|system| system.name == *name);
    let system = system.with_context(|| format!("there is no site system {name}"))?;
    let Some(path) = &args.key else {
        ensure!(
            args.template.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_ .".contains(&b)),
            "a template's name has letters, digits, spaces, '-', '_' and '.'"
        );
        super::print(&inf(&system.hosts, &args.template))?;
        return Ok(ExitCode::SUCCESS);
    };
    let hosts: Vec<ServerName<'static>> =
        system.hosts.iter().filter_map(|host| ServerName::try_from(host.clone()).ok()).collect();
    let algorithm = match args.algorithm {
        CsrKey::Rsa2048 => CertAlgorithm::Rsa2048,
        CsrKey::P256 => CertAlgorithm::P256,
    };
    let (request, key) = server_request(name, &hosts, algorithm)
        .map_err(|fault| anyhow::anyhow!("no request was made: {fault}"))?;
    keep(path, key.as_bytes())?;
    if let Err(error) = super::print(&request) {
        // A key without its request is of no use, and stands in the way of the next.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    anstream::eprintln!(
        "the key is {}; submit the request, then put certificate and key into the PKI folder \
         together. On a Windows authority: certreq -submit -attrib CertificateTemplate:WebServer",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// A key that is there already may be the one of a request under way.
fn keep(path: &Path, key: &[u8]) -> anyhow::Result<()> {
    let shown = path.display();
    match write_new_private(path, key) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{shown} exists already, and was not changed")
        }
        done => done.with_context(|| shown.to_string()),
    }
}

/// What `certreq -new` takes: names in the subject alternative name extension (2.5.29.17), and
/// serverAuth (1.3.6.1.5.5.7.3.1).
fn inf(hosts: &[String], template: &str) -> String {
    let first = hosts.first().map_or("", String::as_str);
    let names: String = hosts
        .iter()
        .map(|host| {
            let kind = if host.parse::<std::net::IpAddr>().is_ok() { "ipaddress" } else { "dns" };
            format!("_continue_ = \"{kind}={host}&\"\n")
        })
        .collect();
    format!(
        "[Version]\nSignature = \"$Windows NT$\"\n\n[NewRequest]\nSubject = \"CN={first}\"\n\
         KeyAlgorithm = RSA\nKeyLength = 2048\nHashAlgorithm = SHA256\nExportable = TRUE\n\
         MachineKeySet = TRUE\nRequestType = PKCS10\nKeyUsage = 0xA0\n\n\
         [EnhancedKeyUsageExtension]\nOID = 1.3.6.1.5.5.7.3.1\n\n\
         [Extensions]\n2.5.29.17 = \"{{text}}\"\n{names}\n\
         [RequestAttributes]\nCertificateTemplate = \"{template}\"\n"
    )
}
