//! The stage: a directory, two simulated site systems, a gateway before them, and tokens.
//!
//! Knows nothing of the steps. Leaves nothing behind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use sitegate::admin::{SiteSystemStatus, Status};
use sitegate::app::{Options, Running, launch, open_authority, open_tokens};
use sitegate::cli::{health, store::with as with_store};
use sitegate::clock::Clock;
use sitegate::config::{self, Config};
use sitegate::purpose::Purpose;
use sitegate::secret::{write_private, write_public};
use sitegate::site::SiteTokens;
use sitegate::site::store::{Grant, Store};
use sitegate::token::{MintRequest, SignerKind, lifetime_s};
use sitegate_forge::{Forged, Order, Pki};
use tempfile::TempDir;

use crate::{Setup, SimClient, SimDevice, SimulatedBackend, Trust};

pub(super) const MP: &str = "mp01.contoso.com";
pub(super) const DP: &str = "dp01.contoso.com";
/// The token service, by its path and as the issuer of the site's tokens.
pub(super) const SERVICE: &str = "/sitegate/oauth2";
pub(super) const ISSUER: &str = "https://mp01.contoso.com/sitegate/oauth2";
pub(super) const DEVICE: &str = "GUID:5E1C0DE0-1111-4222-8333-444455556666";
pub(super) const USER: &str = "CONTOSO\\anna";
/// A package that the management point says is not ready the first time.
pub(super) const PACKAGE: &str = "PS100012";
/// Where boot media start, and nobody else.
pub(super) const MEDIA_NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PKI_FILES: [&str; 3] = ["ca.crt", "tls.key", "tls.crt"];

/// Everything that the steps need.
pub(super) struct DemoSite {
    dir: TempDir,
    running: Running,
    pub(super) mp: SimulatedBackend,
    pub(super) dp: SimulatedBackend,
    pub(super) clock: Clock,
    /// Trust in the site's root alone.
    pub(super) site_trust: Trust,
    /// Trust in the site's root and in the PKI's.
    pub(super) trust: Trust,
    pub(super) tokens: DemoTokens,
    /// The device that has registered, and its token.
    pub(super) device: Option<SimDevice>,
    pub(super) own_token: String,
    pki: Pki,
    /// The thumbprint of the PKI certificate that was put in place last.
    pub(super) pki_thumbprint: String,
}

/// Tokens of every sort that the steps need.
pub(super) struct DemoTokens {
    pub(super) device: String,
    pub(super) user: String,
    pub(super) content: String,
    pub(super) expired: String,
    pub(super) foreign: String,
    pub(super) bulk: String,
    /// Opens one registration, too.
    pub(super) walk_bulk: String,
    pub(super) media: String,
}

impl DemoSite {
    pub(super) fn start(provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let now = clock.now();
        let dir = tempfile::Builder::new().prefix("sitegate-demo-").tempdir()?;
        let mp = SimulatedBackend::start_as(Setup {
            distribution_point: false,
            content_host: Some(DP.to_owned()),
            not_ready: vec![(PACKAGE.to_owned(), 1)],
            poll: Duration::from_millis(200),
            ..Setup::default()
        })?;
        let dp = SimulatedBackend::start_as(Setup { management_point: false, ..Setup::default() })?;
        for folder in ["pki/mp01", "offer", "tokens"] {
            std::fs::create_dir_all(dir.path().join(folder))?;
        }
        let path = dir.path().join("gateway.toml");
        let text = config_text(dir.path(), mp.address(), dp.address());
        write_public(&path, text.as_bytes())?;
        let loaded = config::load(&path, now)?;
        let config = loaded.config.clone();
        let options =
            Options { path, clock: clock.clone(), provider: provider.clone(), signals: false };
        let running = launch(loaded, options)?;
        let pki = Pki::new("Contoso", now).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        let root =
            open_authority(&config, provider.clone()).context("the site has no authority")?;
        let root = root.root_pem().map_err(|fault| anyhow::anyhow!("{fault}"))?;
        let roots = format!("{root}{}", pki.root());
        write_public(&dir.path().join("roots.pem"), roots.as_bytes())?;
        let tokens = DemoTokens::mint(&config, dir.path(), now)?;
        tokens.write(&dir.path().join("tokens"))?;
        let site_trust = Trust::new(&root, provider.clone())?;
        let trust = Trust::new(&roots, provider)?;
        let stage = DemoSite {
            dir,
            running,
            mp,
            dp,
            clock,
            site_trust,
            trust,
            tokens,
            device: None,
            own_token: String::new(),
            pki,
            pki_thumbprint: String::new(),
        };
        let offer = stage.issue()?;
        stage.write_pki(&stage.path("offer"), &offer)?;
        Ok(stage)
    }

    /// End everything and remove the directory.
    pub(super) fn clear(self) {
        self.running.stop();
        if let Err(error) = self.running.join() {
            tracing::error!(%error, "the gateway of the demonstration has ended");
        }
        self.mp.stop();
        self.dp.stop();
        if let Err(error) = self.dir.close() {
            tracing::warn!(%error, "the directory of the demonstration was not removed");
        }
    }

    /// A path in the stage's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the gateway listens for clients; both site systems share the address.
    pub(super) fn gateway(&self) -> anyhow::Result<SocketAddr> {
        self.running.addresses.get("mp01").copied().context("mp01 does not listen")
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.running.admin
    }

    pub(super) fn metrics(&self) -> SocketAddr {
        self.running.metrics
    }

    /// A client of a host, without a connection yet.
    pub(super) fn client(&self, host: &str) -> anyhow::Result<SimClient> {
        Ok(SimClient::new(self.gateway()?, host, &self.trust))
    }

    /// What status says.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        let (code, body) = health::get(self.admin(), "/api/v1/status")?;
        anyhow::ensure!(code == 200, "status answers {code}");
        Ok(serde_json::from_str(&body)?)
    }

    /// What status says of mp01.
    pub(super) fn status_of_mp(&self) -> anyhow::Result<SiteSystemStatus> {
        let found = self.status()?.site_systems.into_iter().find(|site| site.name == "mp01");
        found.context("status does not know mp01")
    }

    /// What a scrape brings.
    pub(super) fn scrape(&self) -> anyhow::Result<String> {
        let (code, body) = health::get(self.metrics(), "/metrics")?;
        anyhow::ensure!(code == 200, "metrics answers {code}");
        Ok(body)
    }

    /// A PKI certificate for mp01.
    pub(super) fn issue(&self) -> anyhow::Result<Forged> {
        let order = Order::fit(&[MP], self.clock.now());
        self.pki.issue(&order).map_err(|fault| anyhow::anyhow!("{fault}"))
    }

    /// Rename a pair into mp01's folder, file by file; when the last was in place.
    pub(super) fn put_pki(&self, forged: &Forged) -> anyhow::Result<Instant> {
        let incoming = self.path("incoming");
        std::fs::create_dir_all(&incoming)?;
        self.write_pki(&incoming, forged)?;
        for file in PKI_FILES {
            std::fs::rename(incoming.join(file), self.pki_folder().join(file))?;
        }
        Ok(Instant::now())
    }

    /// Empty mp01's folder.
    pub(super) fn remove_pki(&self) -> anyhow::Result<()> {
        for file in PKI_FILES {
            std::fs::remove_file(self.pki_folder().join(file))?;
        }
        Ok(())
    }

    pub(super) fn pki_folder(&self) -> PathBuf {
        self.path("pki/mp01")
    }

    fn write_pki(&self, folder: &Path, forged: &Forged) -> std::io::Result<()> {
        write_public(&folder.join("ca.crt"), self.pki.root().as_bytes())?;
        write_private(&folder.join("tls.key"), forged.key.as_bytes())?;
        write_public(&folder.join("tls.crt"), forged.chain.as_bytes())
    }
}

impl DemoTokens {
    fn mint(config: &Config, dir: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let site = open_tokens(config, now)?;
        // Another site, of which this one has never heard.
        let elsewhere = "https://mp.fabrikam.com/sitegate/oauth2";
        let other =
            SiteTokens::open(&dir.join("other"), "XX1", SignerKind::Rsa2048, None, elsewhere, now)?;
        let last_week = now.checked_sub(SignedDuration::from_hours(7 * 24))?;
        Ok(DemoTokens {
            device: token(&site, Purpose::Client, None, now)?,
            user: token(&site, Purpose::Client, Some(USER), now)?,
            content: token(&site, Purpose::Content, None, now)?,
            expired: token(&site, Purpose::Client, None, last_week)?,
            foreign: token(&other, Purpose::Client, None, now)?,
            bulk: bulk(config, &site, now)?,
            walk_bulk: bulk(config, &site, now)?,
            media: token(&site, Purpose::Media, None, now)?,
        })
    }

    fn write(&self, folder: &Path) -> std::io::Result<()> {
        write_private(&folder.join("device"), self.device.as_bytes())?;
        write_private(&folder.join("user"), self.user.as_bytes())?;
        write_private(&folder.join("content"), self.content.as_bytes())?;
        write_private(&folder.join("expired"), self.expired.as_bytes())
    }
}

/// A bulk registration token that opens one registration, as `token bulk --uses 1` makes it.
fn bulk(config: &Config, site: &SiteTokens, now: Timestamp) -> anyhow::Result<String> {
    let id = uuid::Uuid::new_v4();
    let (lifetime_s, _) = lifetime_s(Purpose::Registration, false);
    let request = MintRequest {
        purpose: Purpose::Registration,
        device: None,
        user: None,
        audience: "urn:sccm:service",
        issuer: site.issuer(),
        hierarchy: site.hierarchy(),
        lifetime_s: Some(lifetime_s),
        bound_to: None,
        scope: None,
        origins: &[],
        id,
    };
    let grant = Grant {
        id,
        issuer: site.issuer(),
        purpose: request.purpose,
        device: None,
        user: None,
        audience: request.audience,
        issued: now,
        expires: now.checked_add(SignedDuration::from_secs(lifetime_s))?,
        bound_to: None,
        scope: None,
        uses_max: Some(1),
        proof: None,
        subject_token: None,
        renews: false,
    };
    let token = site.mint(request, now)?;
    with_store(config, async |store: Store, _| {
        Ok(store.grant_by_operator(&grant, "demo").await?)
    })?;
    Ok(token)
}

fn token(
    site: &SiteTokens,
    purpose: Purpose,
    user: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<String> {
    let request = MintRequest {
        purpose,
        device: Some(DEVICE),
        user,
        audience: "urn:sccm:service",
        issuer: site.issuer(),
        hierarchy: site.hierarchy(),
        lifetime_s: None,
        bound_to: None,
        scope: None,
        origins: &[],
        id: uuid::Uuid::new_v4(),
    };
    Ok(site.mint(request, now)?)
}

fn config_text(dir: &Path, mp: SocketAddr, dp: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        r#"# The configuration of the demonstration. Change it: it is watched.
[site]
code = "PS1"
state = "{dir}/state"
domains = ["contoso.com"]
token_issuer = "{ISSUER}"

[admin]
listen = "127.0.0.1:0"

[metrics]
listen = "127.0.0.1:0"

[log]
access = "{dir}/access.log"

[limits]
drain_time = "2s"

[[site_system]]
name = "dp01"
roles = ["distribution-point"]
listen = "127.0.0.1:0"
hosts = ["{DP}"]
backend = "http://{dp}"

[[site_system]]
name = "mp01"
roles = ["management-point"]
listen = "127.0.0.1:0"
hosts = ["{MP}"]
backend = "http://{mp}"
token_service = true
pki = "{dir}/pki/mp01"
windows_auth = true

[site_system.alt_auth]
networks = ["{MEDIA_NETWORK}"]
endpoints = ["MP_LocationManager"]
"#
    )
}
