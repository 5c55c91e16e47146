//! By what a gateway is known to its site server: a join token once, its own certificate from then
//! on.

use super::link::LinkError;
use super::{SiteServerTask, away};
use crate::secret::{Password, PasswordSource};
use crate::site::server::{IdentityRequest, JoinAnswer, JoinRequest};
use crate::tls::SiteServerTrust;
use crate::token::{Bundle, BundleKeys, BundleTrust, JoinToken};

impl SiteServerTask {
    /// Join the site by the token that the operator has put here.
    pub(super) async fn join(&mut self) -> Result<(), LinkError> {
        let token = join_token(&self.params.following.join).map_err(LinkError::JoinToken)?;
        let now = self.params.clock.now();
        let name = &self.params.following.name;
        let kept_identity = self.kept.identity("identity").map_err(|error| away(&error))?;
        // The same for another try: the answer to the first may have been lost.
        let identity = match kept_identity.filter(|identity| now < identity.renewal) {
            Some(identity) => identity,
            None => {
                let made = self.kept.make_identity("identity", name, now);
                made.map_err(|error| away(&error))?;
                let made = self.kept.identity("identity").map_err(|error| away(&error))?;
                made.ok_or_else(|| away(&"the identity is gone"))?
            }
        };
        let by_key = SiteServerTrust::RootKey(token.root.clone());
        let mut link = self.link_by(by_key, identity, token.servers.clone())?;
        let question = JoinRequest { name: name.clone(), secret: token.secret().to_owned() };
        let answer: JoinAnswer = link.ask("join", &question).await?;
        // By the token, and by nothing that the server says, is it known who signs bundles.
        let keys = named_by_itself(&answer.bundle).only(&token.bundle_key);
        let trust = BundleTrust { site: &self.params.site, keys: &keys, version: 0 };
        let bundle = Bundle::open(&answer.bundle, &trust).map_err(|refusal| {
            self.params.observer.refused(refusal);
            LinkError::Refused { code: refusal.code().into(), words: refusal.to_string() }
        })?;
        tracing::info!(target: "sitegate::site_server", gateway = name,
            "this gateway has joined the site; the join token is used and can be removed");
        self.enforce(bundle, &answer.bundle)
            .map_err(|error| away(&format!("{}: {error}", self.kept.dir().display())))
    }

    /// Replace the gateway's own certificate ahead of its end: the site server hears of the next
    /// one over the present one.
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

/// The join token that the operator has put here.
///
/// # Errors
/// Where it is, and what is wrong with it.
pub fn join_token(source: &PasswordSource) -> Result<JoinToken, String> {
    let read = Password::read(source);
    let (text, _) = read.map_err(|error| format!("the join token in {source}: {error}"))?;
    JoinToken::parse(text.reveal())
        .ok_or_else(|| format!("what is in {source} is no join token, or is cut short"))
}

/// The keys that a bundle names, before it is known who has signed it.
fn named_by_itself(text: &str) -> BundleKeys {
    Bundle::peek(text).map_or_else(|| BundleKeys::of(&[]), |bundle| bundle.keys())
}
