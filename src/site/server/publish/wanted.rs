//! What a bundle says besides the blocks, from the store and from sources outside it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::PublishError;
use crate::site::authority::Authority;
use crate::site::key_ring::Keys;
use crate::site::store::Store;
use crate::site::tokens::SiteTokens;
use crate::token::{BundleSettings, TokenSigner};

/// How long a server stays in the bundle after its last announcement, in seconds.
const SERVER_LIFE_S: i64 = 7 * 86_400;

/// The sources of a bundle besides the store.
pub struct BundleSources {
    /// The site's code.
    pub site: String,
    /// This server's addresses: `https://`, host and port.
    pub servers: Vec<String>,
    /// The origins of the site systems of this process, as clients address them.
    pub origins: Vec<String>,
    /// The signer of the site's tokens.
    pub tokens: Arc<SiteTokens>,
    /// The authority, if the site issues certificates.
    pub authority: Option<Arc<Authority>>,
    /// The state directory, with the keys that sign bundles.
    pub state: PathBuf,
    /// The lifetime of a bundle, in seconds.
    pub life_s: i64,
    /// The largest bundle, in bytes.
    pub bytes_max: usize,
}

/// The inputs that decide whether a bundle's content has changed: the store's version, and the
/// inputs outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeOf {
    pub store: i64,
    /// The bundle in force, which may be that of another server.
    pub bundle: u64,
    bundle_keys: Vec<String>,
    token_keys: String,
    roots: String,
    certificates_from: i64,
    servers: Vec<String>,
    origins: Vec<String>,
}

impl MadeOf {
    /// Whether the inputs outside the store, and the announced servers, are the same.
    pub(super) fn same_sources(&self, other: &MadeOf) -> bool {
        MadeOf { store: other.store, bundle: other.bundle, ..self.clone() } == *other
    }
}

impl BundleSources {
    pub(super) async fn made_of(
        &self,
        store: &Store,
        signers: &Keys,
        now: Timestamp,
    ) -> Result<MadeOf, PublishError> {
        // Read first: a change during the following reads then causes another check.
        let blocks = store.block_version().await?;
        let bundle = store.bundle_version().await?;
        // A bundle without the site's roots would cut off every gateway.
        let (roots, from) = match &self.authority {
            Some(authority) => (authority.root_pem()?, authority.switched()?),
            None => (String::new(), None),
        };
        let (servers, origins) = store.announced(now.as_second() - SERVER_LIFE_S).await?;
        let all = [Some(signers.current()), signers.next(), signers.old()];
        Ok(MadeOf {
            servers,
            origins,
            store: blocks,
            bundle,
            bundle_keys: all.into_iter().flatten().map(|key| key.kid().to_owned()).collect(),
            token_keys: self.tokens.jwks(),
            roots,
            certificates_from: from.map_or(0, second_after),
        })
    }

    /// What a bundle has to say now.
    pub(super) async fn settings(
        &self,
        store: &Store,
        signers: &Keys,
        made_of: &MadeOf,
        now: Timestamp,
    ) -> Result<BundleSettings, PublishError> {
        let (servers, mut origins) = (made_of.servers.clone(), made_of.origins.clone());
        for gateway in store.gateways().await?.iter().filter(|g| g.revoked.is_none()) {
            origins.extend(gateway.hosts.iter().map(|host| origin(host)));
        }
        origins.sort_unstable();
        origins.dedup();
        Ok(BundleSettings {
            site: self.site.clone(),
            hierarchy: self.tokens.hierarchy(),
            issuer: self.tokens.issuer().to_owned(),
            servers,
            origins,
            bundle_keys: [Some(signers.current()), signers.next()]
                .into_iter()
                .flatten()
                .map(TokenSigner::jwk)
                .collect(),
            token_keys: serde_json::from_str(&made_of.token_keys).unwrap_or_default(),
            roots: made_of.roots.clone(),
            revoked: store.blocked_role_certificates(now).await?,
            certificates_from: made_of.certificates_from,
            gone: store.revoked_gateways().await?,
        })
    }
}

/// The next full second: certificates have no fractions, and one issued in the same second may have
/// been issued before.
fn second_after(moment: Timestamp) -> i64 {
    moment.as_second().saturating_add(1)
}

fn origin(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("https://[{ip}]"),
        Err(_) => format!("https://{host}"),
    }
}
