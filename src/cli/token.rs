//! `token issue`, `token inspect`

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use rustls_pki_types::CertificateDer;

use super::{ConfigArg, Format};
use crate::app::{open_tokens, read_blocklist, read_trusted};
use crate::cert::certificate_der;
use crate::client::Presented;
use crate::clock::Clock;
use crate::config::Span;
use crate::purpose::Purpose;
use crate::secret::read_bounded;
use crate::token::{MintRequest, inspect};

const TOKEN_BYTES_MAX: u64 = 1024 * 1024;
const CERTIFICATE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Issue a token, signed with the site's own key. The token goes to standard output.
    Issue {
        /// What it is for.
        #[arg(long, value_enum, default_value_t)]
        kind: Kind,
        /// The device: GUID: and a GUID.
        #[arg(long, value_name = "GUID:…")]
        device: Option<String>,
        /// The user, for client tokens.
        #[arg(long)]
        user: Option<String>,
        /// The audience.
        #[arg(long, default_value = "urn:sccm:service")]
        audience: String,
        /// How long it lives, as "30m", "8h" or "3d", instead of the kind's usual life.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        lifetime: Option<Span>,
        /// Bind it to the client certificate in this file (PEM or DER): it then opens for the holder
        /// of that certificate's key alone.
        #[arg(long, value_name = "FILE")]
        certificate: Option<std::path::PathBuf>,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show what a token says, and whether it would be accepted.
    Inspect {
        /// A file with the token; standard input by default.
        file: Option<std::path::PathBuf>,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Kind {
    /// A client's work.
    #[default]
    Client,
    /// Registration of new clients, in bulk.
    Registration,
    /// Content of distribution points.
    Content,
    /// Boot media.
    BootMedia,
    /// Task sequences.
    TaskSequence,
}

impl Kind {
    fn purpose(self) -> Purpose {
        match self {
            Kind::Client => Purpose::Client,
            Kind::Registration => Purpose::Registration,
            Kind::Content => Purpose::Content,
            Kind::BootMedia => Purpose::Media,
            Kind::TaskSequence => Purpose::TaskSequence,
        }
    }
}

fn duration(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "write a number and s, m, h or d".to_owned())
}

pub(super) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Issue { kind, device, user, audience, lifetime, certificate, config } => {
            let loaded = match super::load(&config) {
                Ok(loaded) => loaded,
                Err(code) => return Ok(code),
            };
            let now = Clock::system().now();
            let site = open_tokens(&loaded.config, now)?;
            let lifetime_s = lifetime.map(|span| i64::try_from(span.0.as_secs())).transpose()?;
            let bound_to = certificate.as_deref().map(thumbprint_of).transpose()?;
            let request = MintRequest {
                purpose: kind.purpose(),
                device: device.as_deref(),
                user: user.as_deref(),
                audience: &audience,
                issuer: site.issuer(),
                hierarchy: site.hierarchy(),
                lifetime_s,
                bound_to: bound_to.as_deref(),
                id: uuid::Uuid::new_v4(),
            };
            super::print(&(site.mint(request, now)? + "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect { file, format, config } => inspect_one(file, format, &config),
    }
}

/// The SHA-256 thumbprint of the certificate in a file, as tokens have it.
fn thumbprint_of(path: &Path) -> anyhow::Result<String> {
    let shown = || path.display().to_string();
    let (bytes, _) = read_bounded(path, CERTIFICATE_BYTES_MAX).with_context(shown)?;
    let der = match bytes.first() {
        Some(0x30) => CertificateDer::from(bytes.to_vec()),
        _ => certificate_der(&bytes).with_context(shown)?,
    };
    x509_parser::parse_x509_certificate(&der).with_context(shown)?;
    let presented = Presented::of(&[der]).with_context(shown)?;
    Ok(presented.x5t_s256().to_owned())
}

fn inspect_one(
    file: Option<std::path::PathBuf>,
    format: Format,
    config: &ConfigArg,
) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    match &file {
        Some(path) => {
            let open = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            open.take(TOKEN_BYTES_MAX).read_to_end(&mut text)?;
        }
        None => {
            std::io::stdin().take(TOKEN_BYTES_MAX).read_to_end(&mut text)?;
        }
    }
    let now = Clock::system().now();
    let (trusted, blocklist) = match config.config.exists() {
        true => match super::load(config) {
            Ok(loaded) => (read_trusted(&loaded.config, now), read_blocklist(&loaded.config)?),
            Err(code) => return Ok(code),
        },
        false => Default::default(),
    };
    let inspection = inspect(&text, &trusted, &blocklist, now);
    match format {
        Format::Json => super::print_json(&inspection)?,
        Format::Text => super::print(&inspection.to_string())?,
    }
    Ok(match inspection.accepted {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(super::FAILED),
    })
}
