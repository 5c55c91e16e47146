//! `token issue`, `token bulk`, `token inspect`, `token block`, `token unblock`, `token list`

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::issue::{TokenOrder, Uses, issue};
use super::{ConfigArg, Format, devices, store};
use crate::app::{read_blocklist, read_trusted};
use crate::cert::certificate_der;
use crate::client::Presented;
use crate::clock::Clock;
use crate::config::Span;
use crate::purpose::Purpose;
use crate::secret::read_bounded;
use crate::site::store::{Blocked, IssuedToken, Store, TokenFilter};
use crate::token::inspect;

const TOKEN_BYTES_MAX: u64 = 1024 * 1024;
const CERTIFICATE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Issue a token, signed with the site's own key. The token goes to standard output.
    Issue {
        /// What it is for.
        #[arg(long, value_enum, default_value_t)]
        kind: TokenKindArg,
        /// The device: GUID: and a GUID.
        #[arg(long, value_name = "GUID:…")]
        device: Option<String>,
        /// The user, for client tokens.
        #[arg(long)]
        user: Option<String>,
        /// The audience.
        #[arg(long, default_value = "urn:sccm:service")]
        audience: String,
        /// Its lifetime, as "30m", "8h" or "3d", instead of the default of its purpose.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        lifetime: Option<Span>,
        /// Bind it to the client certificate in this file (PEM or DER): it is then accepted only
        /// from the holder of that certificate's key.
        #[arg(long, value_name = "FILE")]
        certificate: Option<std::path::PathBuf>,
        /// How often it can be exchanged for another token, or register: a number or "unlimited".
        #[arg(long, value_name = "NUMBER", value_parser = Uses::parse)]
        uses: Option<Uses>,
        /// Limit it to a package, by its package or content id; repeat it for several.
        #[arg(long, value_name = "ID")]
        package: Vec<String>,
        /// Limit it to a path and all below; repeat it for several.
        #[arg(long, value_name = "/PREFIX")]
        path: Vec<String>,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Issue a bulk registration token: anyone who has it can register clients until it expires.
    Bulk {
        /// Its lifetime, at most seven days [default: three days].
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        lifetime: Option<Span>,
        /// How many registrations it allows: a number or "unlimited" [default: 1000].
        #[arg(long, value_name = "NUMBER", value_parser = Uses::parse)]
        uses: Option<Uses>,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Block one token, or all tokens issued before a time, and report where the block is in force.
    Block {
        #[command(flatten)]
        which: WhichTokens,
        /// The reason, for the audit log.
        #[arg(long)]
        reason: Option<String>,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Remove a block.
    Unblock {
        #[command(flatten)]
        which: WhichTokens,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// List the tokens that the site has issued, latest first. The tokens themselves are not
    /// stored.
    List {
        /// Those of one device.
        #[arg(long, value_name = "GUID:…")]
        device: Option<String>,
        /// Expired ones, too.
        #[arg(long)]
        all: bool,
        /// How many at most.
        #[arg(long, default_value_t = 1_000)]
        limit: u32,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
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

/// What is blocked.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TokensReport {
    /// The token's id: token_id in the access log, UniqueId or jti in the token.
    id: Option<String>,
    /// All tokens that were issued before this time, as 2026-11-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    issued_before: Option<Timestamp>,
}

/// What is blocked, and of whom.
#[derive(Debug, clap::Args)]
pub(super) struct WhichTokens {
    #[command(flatten)]
    tokens: TokensReport,
    /// The iss of the tokens, if they are not the site's own.
    #[arg(long, value_name = "ISS")]
    issuer: Option<String>,
}

impl WhichTokens {
    fn blocked<'a>(&'a self, own: &'a str) -> Blocked<'a> {
        let issuer = self.issuer.as_deref().unwrap_or(own);
        match (&self.tokens.id, self.tokens.issued_before) {
            (_, Some(before)) => Blocked::IssuedBefore { issuer, before },
            (id, None) => Blocked::Token { issuer, id: id.as_deref().unwrap_or_default() },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum TokenKindArg {
    /// Normal use by a client.
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

impl TokenKindArg {
    fn purpose(self) -> Purpose {
        match self {
            TokenKindArg::Client => Purpose::Client,
            TokenKindArg::Registration => Purpose::Registration,
            TokenKindArg::Content => Purpose::Content,
            TokenKindArg::BootMedia => Purpose::Media,
            TokenKindArg::TaskSequence => Purpose::TaskSequence,
        }
    }
}

fn duration(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "write a number and s, m, h or d".to_owned())
}

pub(super) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Issue {
            kind,
            device,
            user,
            audience,
            lifetime,
            certificate,
            uses,
            package,
            path,
            config,
        } => {
            let bound_to = certificate.as_deref().map(thumbprint_of).transpose()?;
            let packages = package.iter().map(|id| format!("package:{id}"));
            let scope: Vec<_> = packages.chain(path.iter().map(|p| format!("path:{p}"))).collect();
            let scope = scope.join(" ");
            let wish = TokenOrder {
                purpose: kind.purpose(),
                device: device.as_deref(),
                user: user.as_deref(),
                audience: &audience,
                lifetime,
                bound_to: bound_to.as_deref(),
                scope: Some(scope.as_str()).filter(|scope| !scope.is_empty()),
                uses,
            };
            issue(&config, &wish)
        }
        Command::Bulk { lifetime, uses, config } => {
            let wish = TokenOrder {
                purpose: Purpose::Registration,
                device: None,
                user: None,
                audience: AUDIENCE,
                lifetime,
                bound_to: None,
                scope: None,
                uses,
            };
            issue(&config, &wish)
        }
        Command::Block { which, reason, no_wait, config } => {
            let change = devices::Change { unblock: false, waits: !no_wait };
            block(&config, &which, reason.as_deref(), change)
        }
        Command::Unblock { which, no_wait, config } => {
            let change = devices::Change { unblock: true, waits: !no_wait };
            block(&config, &which, None, change)
        }
        Command::List { device, all, limit, format, config } => {
            list(&config, device.as_deref(), all, limit, format)
        }
        Command::Inspect { file, format, config } => inspect_one(file, format, &config),
    }
}

/// The site's own audience, which every site system accepts.
const AUDIENCE: &str = "urn:sccm:service";

fn block(
    config: &ConfigArg,
    which: &WhichTokens,
    reason: Option<&str>,
    change: devices::Change,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let own = loaded.config.site.token_issuer.clone();
    devices::block_in(&loaded.config, &which.blocked(&own), reason, change)
}

#[derive(serde::Serialize)]
struct IssuedTokenRow {
    id: String,
    purpose: &'static str,
    device: Option<String>,
    user: Option<String>,
    audience: String,
    scope: Option<String>,
    issued: Timestamp,
    expires: Timestamp,
    uses: u32,
    uses_max: Option<u32>,
    blocked: bool,
}

impl IssuedTokenRow {
    fn of(token: IssuedToken) -> Self {
        IssuedTokenRow {
            id: token.id.to_string(),
            purpose: token.purpose.as_str(),
            device: token.device,
            user: token.user,
            audience: token.audience,
            scope: token.scope,
            issued: token.issued,
            expires: token.expires,
            uses: token.uses,
            uses_max: token.uses_max,
            blocked: token.blocked,
        }
    }
}

fn list(
    config: &ConfigArg,
    device: Option<&str>,
    all: bool,
    limit: u32,
    format: Format,
) -> anyhow::Result<ExitCode> {
    use std::fmt::Write as _;
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let rows: Vec<IssuedTokenRow> =
        store::with_present(&loaded.config, async |store: Store, now| {
            let live_at = (!all).then_some(now);
            let filter = TokenFilter { device, purpose: None, live_at };
            Ok(store
                .tokens(filter, limit, None)
                .await?
                .into_iter()
                .map(IssuedTokenRow::of)
                .collect())
        })?;
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut text = String::new();
            for row in &rows {
                let whose = row.device.as_deref().or(row.user.as_deref()).unwrap_or("-");
                let IssuedTokenRow { id, purpose, expires, .. } = row;
                write!(text, "{id}  {purpose:<13}  {whose}  until {expires}")?;
                if let Some(scope) = &row.scope {
                    write!(text, "  {scope}")?;
                }
                if let Some(max) = row.uses_max {
                    write!(text, "  used {} of {max}", row.uses)?;
                }
                writeln!(text, "{}", if row.blocked { "  blocked" } else { "" })?;
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
    let (trusted, blocklist) = if config.config.exists() {
        match super::load(config) {
            Ok(loaded) => (read_trusted(&loaded.config), read_blocklist(&loaded.config)?),
            Err(code) => return Ok(code),
        }
    } else {
        Default::default()
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
