//! `site serve`, `site join-token`, `site gateway`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::app::{open_authority, store_place};
use crate::cert::certificate_der;
use crate::cert::issuer::RevocationReason;
use crate::clock::Clock;
use crate::config::{Config, SiteKind};
use crate::route::Role;
use crate::site::store::{GatewayRecord, Joining, Store};
use crate::site::{BlockError, Ring, Stage, Thing, bundle_keys};
use crate::tls::root_key_name;
use crate::token::{BundleSettings, JOIN_LIFE_MAX_S, JoinToken, OpenedBundle};

/// What a gateway that joins may be.
#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// The gateway's name, as in its own [site_server].
    name: String,
    /// A host name or IP address of its site systems; repeat it for several.
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// A role that its site systems may have; repeat it for several.
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = known_role)]
    roles: Vec<String>,
    /// The URL of a site server as the gateway reaches it, if it differs from the configured one.
    #[arg(long = "server", value_name = "URL")]
    servers: Vec<String>,
    /// How many hours it is valid; at most 24.
    #[arg(long, default_value_t = 24)]
    hours: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum GatewayCommand {
    /// List the gateways on other hosts, and the bundle and certificates of each.
    List {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Revoke a gateway: it receives no more bundles, and its certificates are blocked.
    Revoke {
        /// The gateway's name.
        name: String,
        /// The reason, for the audit log.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        config: ConfigArg,
    },
}

fn known_role(text: &str) -> Result<String, String> {
    let known = Role::ALL.into_iter().filter(|role| *role != Role::SiteServer).map(Role::as_str);
    if known.clone().any(|role| role == text) {
        Ok(text.to_owned())
    } else {
        Err(format!("known: {}", known.collect::<Vec<_>>().join(", ")))
    }
}

/// `site serve`: as `run`, for a configuration that has the role.
pub(super) fn serve(arg: ConfigArg, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(&arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if !is_site_server(&loaded.config) {
        anstream::eprintln!(
            "sitegate: {} has no site system with the role site-server, so it cannot serve \
             gateways; config/site-server.toml is an example",
            arg.config.display()
        );
        return Ok(ExitCode::from(super::BAD_CONFIG));
    }
    super::run::run(arg, provider)
}

fn is_site_server(config: &Config) -> bool {
    config.site_systems.iter().any(|system| system.is_site_server())
}

pub(super) fn join_token(
    arg: &ConfigArg,
    join: &Join,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let config = &loaded.config;
    if !is_site_server(config) {
        bail!("this is no site server: no site system of {} has that role", arg.config.display());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=64).contains(&join.name.len()) || !join.name.bytes().all(plain) {
        bail!("a gateway's name is up to 64 letters, digits, '-', '_' and '.'");
    }
    let provider_alone = |role: &String| role == Role::AdministrationService.as_str();
    if config.site.kind == SiteKind::CentralAdministration && !join.roles.iter().all(provider_alone)
    {
        bail!("a central administration site issues for the administration service alone");
    }
    let hosts: Vec<String> = join.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    for host in &hosts {
        is_within(config, host)?;
    }
    let servers = if join.servers.is_empty() {
        let serving = config.site_systems.iter().filter(|system| system.is_site_server());
        serving.flat_map(|system| system.origins()).collect()
    } else {
        join.servers.clone()
    };
    if let Some(bad) = servers.iter().find(|url| !url.starts_with("https://")) {
        bail!("{bad} is not a URL of a site server: write https:// and its host");
    }
    let authority = open_authority(config, provider)
        .context("this site issues no certificates (certificates = \"pki-only\")")?;
    let root = authority.root_pem().map_err(|fault| {
        anyhow::anyhow!("{fault}; start the site server once; it makes its root")
    })?;
    let root = certificate_der(root.as_bytes()).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let root = root_key_name(&root).context("the site's root cannot be read")?;
    let life_s = i64::from(join.hours).saturating_mul(3_600);
    let now = Clock::system().now();
    let signers = bundle_keys(&config.site.state, now)?;
    if life_s > JOIN_LIFE_MAX_S {
        bail!(
            "a join token is valid for 24 hours at most: any host that has it can join as this \
             gateway"
        );
    }
    let bundle_key = signers.current().kid();
    let token = JoinToken::make(&join.name, servers, &root, bundle_key, life_s, now)?;
    let expires = now + SignedDuration::from_secs(life_s);
    store::with(config, async |store: Store, now: Timestamp| {
        let joining = Joining {
            fingerprint: &token.fingerprint(),
            name: &join.name,
            hosts: &hosts,
            roles: &join.roles,
            expires,
        };
        Ok(store.allow_join(&joining, &store::actor(), now).await?)
    })?;
    anstream::eprintln!(
        "Valid for one use, until {expires}. Put it into a file on the gateway that only sitegate \
         may read, and name the file in [site_server] join."
    );
    super::print(&format!("{}\n", *token.reveal()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the site's root could not vouch for is refused here, not when the certificate is due.
fn is_within(config: &Config, host: &str) -> anyhow::Result<()> {
    if host.parse::<IpAddr>().is_ok() || !config.site.issues_certificates {
        return Ok(());
    }
    let below = |domain: &String| {
        host == domain || host.strip_suffix(domain.as_str()).is_some_and(|r| r.ends_with('.'))
    };
    if config.site.domains.iter().any(below) {
        Ok(())
    } else if config.site.domains.is_empty() {
        bail!(
            "the site's root is limited to its own hosts: write [site] domains, with a new root, \
             before gateways on other hosts can have certificates"
        )
    } else {
        bail!("{host} is in none of the site's domains")
    }
}

/// The gateways that have not got what was handed out of a thing, or that still serve a certificate
/// of the one before. A gateway of this machine reads the files themselves.
pub(super) fn lacking(config: &Config, thing: Thing, ring: &Ring) -> anyhow::Result<Vec<String>> {
    let (_, _, is_there) = store_place(config)?;
    if !is_there || ring.stage() == Stage::Steady {
        return Ok(Vec::new());
    }
    let (told, gateways, certificates) =
        store::with_present(config, async |store: Store, now: Timestamp| {
            let stored = store.bundle().await?;
            let told = stored.and_then(|stored| OpenedBundle::peek(&stored.lines()));
            let told = told.map(|opened| opened.head);
            Ok((told, store.gateways().await?, store.role_certificates(now).await?))
        })?;
    let is_told =
        told.as_ref().is_some_and(|bundle| names_it(&bundle.settings, thing, ring.stage()));
    let version = told.as_ref().map_or(u64::MAX, |bundle| bundle.version);
    let of_the_old = |gateway: &GatewayRecord| {
        let mut latest = BTreeMap::new();
        for certificate in certificates.iter().filter(|c| c.gateway == gateway.name) {
            latest.insert(&certificate.site_system, certificate);
        }
        let before = |issued: Timestamp| ring.since.is_some_and(|since| issued <= since);
        latest.values().any(|certificate| before(certificate.issued))
    };
    let lacks = |gateway: &GatewayRecord| match (thing, ring.stage()) {
        // It comes with each certificate.
        (Thing::Intermediate, Stage::Published) => false,
        (Thing::Root | Thing::Intermediate, Stage::Switched) => of_the_old(gateway),
        _ => !is_told || gateway.bundle < version,
    };
    let active = gateways.iter().filter(|gateway| gateway.revoked.is_none());
    Ok(active.filter(|gateway| lacks(gateway)).map(|gateway| gateway.name.clone()).collect())
}

/// Whether a bundle was made after the last step of a thing: while the next one is only handed out
/// there are two.
fn names_it(bundle: &BundleSettings, thing: Thing, stage: Stage) -> bool {
    let keys = bundle.token_keys.get("keys").and_then(|keys| keys.as_array());
    let found = match thing {
        Thing::Root => bundle.roots.matches("BEGIN CERTIFICATE").count(),
        Thing::BundleKey => bundle.bundle_keys.len(),
        Thing::TokenKey => keys.map_or(0, Vec::len),
        Thing::Intermediate => return true,
    };
    match (thing, stage) {
        (Thing::BundleKey, Stage::Switched) => found == 1,
        _ => found > 1,
    }
}

#[derive(Serialize)]
struct GatewayRow {
    gateway: String,
    state: &'static str,
    hosts: Vec<String>,
    roles: Vec<String>,
    joined: Timestamp,
    seen: Option<Timestamp>,
    bundle: u64,
    is_current: bool,
    revoke_reason: Option<String>,
}

impl GatewayRow {
    fn of(gateway: GatewayRecord, current: u64) -> GatewayRow {
        GatewayRow {
            state: if gateway.revoked.is_some() { "revoked" } else { "joined" },
            is_current: gateway.bundle == current,
            gateway: gateway.name,
            hosts: gateway.hosts,
            roles: gateway.roles,
            joined: gateway.joined,
            seen: gateway.seen,
            bundle: gateway.bundle,
            revoke_reason: gateway.revoke_reason,
        }
    }
}

pub(super) fn gateway(
    command: &GatewayCommand,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    match command {
        GatewayCommand::List { format, config } => list(config, *format),
        GatewayCommand::Revoke { name, reason, config } => {
            revoke(config, name, reason.as_deref(), provider)
        }
    }
}

fn list(arg: &ConfigArg, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let rows: Vec<GatewayRow> = store::with_present(&loaded.config, async |store: Store, _| {
        let current = store.bundle_version().await?;
        let all = store.gateways().await?;
        Ok(all.into_iter().map(|gateway| GatewayRow::of(gateway, current)).collect())
    })?;
    if format == Format::Json {
        super::print_json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for row in &rows {
        let seen = row.seen.map_or_else(|| "never".to_owned(), |seen| seen.to_string());
        let has = match (row.bundle, row.is_current) {
            (0, _) => "no bundle yet",
            (_, true) => "the bundle in force",
            (_, false) => "an older bundle",
        };
        writeln!(text, "{}  {}  {}", row.gateway, row.state, row.roles.join(", "))?;
        writeln!(text, "  hosts     {}", row.hosts.join(", "))?;
        writeln!(text, "  joined    {}", row.joined)?;
        writeln!(text, "  has       {has}; asked last {seen}")?;
        if let Some(reason) = &row.revoke_reason {
            writeln!(text, "  revoked   {reason}")?;
        }
    }
    if rows.is_empty() {
        anstream::eprintln!(
            "no gateway has joined; 'sitegate site join-token' makes a token to join"
        );
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn revoke(
    arg: &ConfigArg,
    name: &str,
    reason: Option<&str>,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let authority = open_authority(&loaded.config, provider);
    let done = store::with_present(&loaded.config, async |store: Store, now: Timestamp| {
        let done = store.revoke_gateway(name, reason, &store::actor(), now).await?;
        let issued = store.role_certificates(now).await?;
        let theirs = issued.iter().filter(|one| one.gateway == name);
        // On the list of revoked certificates as well, for clients that look at it.
        for one in theirs.filter(|_| done == Some(true)) {
            let shown = format!("{} at {name}", one.site_system);
            let Some(authority) = &authority else { continue };
            let why = RevocationReason::PrivilegeWithdrawn;
            match authority.block_elsewhere(&shown, &one.certificate, why, now) {
                Ok(_) | Err(BlockError::Already(_)) => {}
                Err(error) => {
                    anstream::eprintln!("{shown} is not on the CRL: {error}")
                }
            }
        }
        Ok(done)
    })?;
    match done {
        None => {
            bail!("no gateway is named {name}; 'sitegate site gateway list' lists all")
        }
        Some(false) => anstream::eprintln!("{name} was revoked before"),
        Some(true) => anstream::eprintln!(
            "{name} receives no more bundles. It serves its own clients until its bundle expires, \
             and forever with stale = \"serve\": take it off the network if you do not trust it."
        ),
    }
    Ok(ExitCode::SUCCESS)
}
