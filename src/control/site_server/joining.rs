//! How a gateway authenticates to its site server: with a join token once, then with its own
//! certificate (mutual TLS).

use super::link::LinkError;
use super::{SiteServerTask, away};
use crate::secret::{Password, PasswordSource};
use crate::site::server::{IdentityRequest, JoinRequest};
use crate::tls::SiteServerTrust;
use crate::token::{BundleHead, BundleKeys, BundleTrust, JoinToken, OpenedBundle};

impl SiteServerTask {
    /// Joins the site with the operator's join token.
    pub(super) async fn join(&mut self) -> Result<(), LinkError> {
        let token = join_token(&self.params.following.join).map_err(LinkError::JoinToken)?;
        let now = self.params.clock.now();
        let name = &self.params.following.name;
        let kept_identity = self.kept.identity("identity").map_err(|error| away(&error))?;
        // A retry uses the same identity: the response to the first attempt may have been lost.
        let identity = match kept_identity.filter(|identity| now < identity.renewal) {
            Some(identity) => identity,
            None => {
                let made = self.kept.make_identity("identity", name, now);
                made.map_err(|error| away(&error))?;
                let made = self.kept.identity("identity").map_err(|error| away(&error))?;
                made.ok_or_else(|| away(&"the gateway's identity is missing"))?
            }
        };
        let by_key = SiteServerTrust::RootKey(token.root.clone());
        let mut link = self.link_by(by_key, identity, token.servers.clone())?;
        let question = JoinRequest { name: name.clone(), secret: token.secret().to_owned() };
        let answer = link.join(&question).await?;
        // The token alone, and nothing that the server sends, names the key that signs bundles.
        let keys = named_by_itself(&answer.bundle).only(&token.bundle_key);
        let trust = BundleTrust { site: &self.params.site, keys: &keys, version: 0 };
        let opened = OpenedBundle::open(&answer.bundle, &trust).map_err(|refusal| {
            self.params.observer.refused(refusal);
            LinkError::Refused { code: refusal.code().into(), words: refusal.to_string() }
        })?;
        tracing::info!(target: "sitegate::site_server", gateway = name,
            "this gateway has joined the site; the join token is used and can be removed");
        self.enforce(opened, &answer.bundle)
            .map_err(|error| away(&format!("{}: {error}", self.kept.dir().display())))
    }

    /// Replaces the gateway's own certificate before it expires. The new one is announced over a
    /// connection with the current one.
    pub(super) async fn renew_identity(&mut self) -> Result<(), LinkError> {
        let now = self.params.clock.now();
        let Ok(Some(present)) = self.kept.identity("identity") else { return Ok(()) };
        if self.trust.is_none() || now < present.renewal {
            return Ok(());
        }
        let failed = |error: std::io::Error| away(&error);
        let next = match self.kept.identity("next") {
            Ok(Some(next)) if now < next.renewal => next,
            _ => {
                self.kept
                    .make_identity("next", &self.params.following.name, now)
                    .map_err(failed)?;
                self.kept.identity("next").map_err(failed)?.ok_or_else(|| away(&"no identity"))?
            }
        };
        let Some(mut link) = self.connect()? else { return Ok(()) };
        let told = IdentityRequest { thumbprint: next.thumbprint() };
        link.tell("identity", &told).await?;
        self.kept.adopt_identity("next").map_err(failed)?;
        tracing::info!(target: "sitegate::site_server", "this gateway has a new certificate");
        self.connect().map(drop)
    }
}

/// The join token that the operator has configured.
///
/// # Errors
/// Its source and the fault.
pub fn join_token(source: &PasswordSource) -> Result<JoinToken, String> {
    let read = Password::read(source);
    let (text, _) = read.map_err(|error| format!("the join token in {source}: {error}"))?;
    JoinToken::parse(text.reveal())
        .ok_or_else(|| format!("{source} does not hold a join token, or the token is cut short"))
}

/// The keys that a bundle names, before its signature is verified.
fn named_by_itself(text: &str) -> BundleKeys {
    BundleHead::peek(text).map_or_else(|| BundleKeys::of(&[]), |bundle| bundle.settings.keys())
}
