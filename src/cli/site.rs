//! `site show`, `site export-root`, and what concerns devices and gateways

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::{ConfigArg, Format, bundle, devices, gateways};
use crate::admin::CertificateStatus;
use crate::app::{certificate_status, open_authority};
use crate::cert::{certificate_der, p7b};
use crate::control::site_server::Kept;
use crate::site::Authority;
use crate::site::store::Blocked;

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
    /// List the devices that have registered.
    Devices {
        #[command(flatten)]
        which: devices::Which,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Let devices in that wait for approval, with the keys that wait with them.
    Approve {
        /// The devices.
        #[arg(value_name = "GUID:…")]
        devices: Vec<String>,
        /// All that wait.
        #[arg(long)]
        all_pending: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Block a device with all that it is known by, or a user; within a second everywhere.
    Block {
        #[command(flatten)]
        who: Who,
        /// Why, for whoever asks later.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Take a block back.
    Unblock {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show who did what, the latest first.
    Audit {
        /// How many lines at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Run a site server: a gateway whose configuration has the role site-server.
    Serve(ConfigArg),
    /// Let a gateway on another host join the site: writes a token that is good once.
    JoinToken {
        #[command(flatten)]
        join: gateways::Join,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Gateways on other hosts.
    #[command(subcommand)]
    Gateway(gateways::GatewayCommand),
    /// What the site server tells its gateways.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Write the site's root, for clients to trust.
    ExportRoot {
        /// PEM, DER as Windows imports it, or PKCS#7.
        #[arg(long, value_enum, default_value_t)]
        format: RootFormat,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Who is blocked.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// A device: GUID: and a GUID, its Entra id, or the thumbprint of one of its keys.
    device: Option<String>,
    /// A user, as tokens name them.
    #[arg(long)]
    user: Option<String>,
}

impl Who {
    fn blocked(&self) -> Blocked<'_> {
        match (&self.device, &self.user) {
            (Some(device), _) => Blocked::Device(device),
            (None, user) => Blocked::User { issuer: None, id: user.as_deref().unwrap_or_default() },
        }
    }
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
        Command::Devices { which, format, config } => devices::list(&config, &which, format),
        Command::Approve { devices, all_pending, config } => {
            devices::approve(&config, &devices, all_pending)
        }
        Command::Block { who, reason, config } => {
            devices::block(&config, &who.blocked(), reason.as_deref(), false)
        }
        Command::Unblock { who, config } => devices::block(&config, &who.blocked(), None, true),
        Command::Audit { limit, format, config } => devices::audit(&config, limit, format),
        Command::Serve(config) => gateways::serve(config, provider),
        Command::JoinToken { join, config } => gateways::join_token(&config, &join, provider),
        Command::Gateway(command) => gateways::gateway(&command),
        Command::Bundle(command) => bundle::run(&command),
        Command::ExportRoot { format, config } => export_root(&config, format, provider),
    }
}

fn authority(
    config: &ConfigArg,
    provider: Arc<CryptoProvider>,
) -> Result<anyhow::Result<Arc<Authority>>, ExitCode> {
    let loaded = super::load(config)?;
    if let Err(elsewhere) = super::is_own(&loaded.config) {
        return Ok(Err(elsewhere));
    }
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
    let plain = |fault: crate::cert::Fault| anyhow::anyhow!("{fault}");
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let pem = match &loaded.config.site_server {
        Some(_) => Kept::new(&loaded.config.site.state)
            .roots()
            .context("this gateway has not heard of its site server yet")?,
        None => match authority(config, provider) {
            Ok(authority) => authority?.roots_pem().map_err(plain)?,
            Err(code) => return Ok(code),
        },
    };
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
