//! `site show`, `site export-root`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::{ConfigArg, Format};
use crate::admin::CertificateStatus;
use crate::app::{certificate_status, open_authority};
use crate::cert::{certificate_der, p7b};
use crate::site::Authority;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the site's root and the certificates it has issued.
    Show {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Write the site's root, for clients to trust.
    ExportRoot {
        /// PEM, DER as Windows imports it, or PKCS#7.
        #[arg(long, value_enum, default_value_t)]
        format: RootFormat,
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum RootFormat {
    #[default]
    Pem,
    Cer,
    P7b,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    certificate: CertificateStatus,
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show { format, config } => show(&config, format, provider),
        Command::ExportRoot { format, config } => export_root(&config, format, provider),
    }
}

fn authority(
    config: &ConfigArg,
    provider: Arc<CryptoProvider>,
) -> Result<anyhow::Result<Arc<Authority>>, ExitCode> {
    let loaded = super::load(config)?;
    let none = "this site issues no certificates (certificates = \"pki-only\")";
    Ok(open_authority(&loaded.config, provider).context(none))
}

fn show(
    config: &ConfigArg,
    format: Format,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let authority = match authority(config, provider) {
        Ok(authority) => authority?,
        Err(code) => return Ok(code),
    };
    let overview = authority.overview().map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let mut rows = vec![
        Shown {
            name: "SMS Issuing".to_owned(),
            certificate: certificate_status("site-issued", &overview.root),
        },
        Shown {
            name: "SMS Role Signing".to_owned(),
            certificate: certificate_status("site-issued", &overview.role),
        },
    ];
    for (name, facts) in &overview.leaves {
        rows.push(Shown {
            name: format!("SMS Role SSL Certificate of {name}"),
            certificate: certificate_status("site-issued", facts),
        });
    }
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let now = crate::clock::Clock::system().now();
            let mut text = String::new();
            for row in &rows {
                text.push_str(&row.name);
                text.push('\n');
                super::status::certificate_text(&mut text, &row.certificate, now)?;
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export_root(
    config: &ConfigArg,
    format: RootFormat,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let authority = match authority(config, provider) {
        Ok(authority) => authority?,
        Err(code) => return Ok(code),
    };
    let plain = |fault: crate::cert::Fault| anyhow::anyhow!("{fault}");
    let pem = authority.root_pem().map_err(plain)?;
    let bytes = match format {
        RootFormat::Pem => pem.into_bytes(),
        RootFormat::Cer => certificate_der(pem.as_bytes()).map_err(plain)?.to_vec(),
        RootFormat::P7b => p7b(&[certificate_der(pem.as_bytes()).map_err(plain)?]),
    };
    let mut out = std::io::stdout();
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
