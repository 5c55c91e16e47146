//! A credential with the roots that it is checked against, and the check.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;

use crate::cert::{Anchors, Credential, CredentialFault, Judged, Staple, Unstapled, Verdicts};
use crate::site::Authority;
use crate::unfit::Unfit;

/// A credential and the roots that it is checked against.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub credential: Arc<Credential>,
    pub anchors: Arc<Anchors>,
    /// The OCSP response beside it, or why it is unusable.
    pub staple: Option<Result<Staple, Unstapled>>,
}

impl Holding {
    /// The response to staple at that time.
    pub fn stapled(&self, now: Timestamp) -> Option<&Staple> {
        self.staple.as_ref()?.as_ref().ok().filter(|staple| staple.holds(now).is_ok())
    }

    /// Why the response is not stapled.
    pub fn unstapled(&self, now: Timestamp) -> Option<Unstapled> {
        match self.staple.as_ref()? {
            Ok(staple) => staple.holds(now).err(),
            Err(why) => Some(why),
        }
    }

    /// The times at which staple or roots change.
    pub fn moments(&self) -> impl Iterator<Item = Timestamp> {
        let staple = self.staple.as_ref().and_then(|staple| staple.as_ref().ok());
        let staple = staple.into_iter().flat_map(|staple| [staple.this_update, staple.next_update]);
        staple.chain(self.anchors.moments(&self.credential))
    }
}

/// The criteria for every credential of a site system.
pub(super) struct Judge<'a> {
    pub hosts: &'a [ServerName<'static>],
    pub provider: &'a CryptoProvider,
    /// Credentials that failed their trial handshake, with the fault.
    pub failed: &'a [(Arc<Credential>, CredentialFault)],
    pub verdicts: &'a Verdicts,
    /// Knows which site-issued certificates are blocked.
    pub authority: Option<&'a Authority>,
}

impl Judge<'_> {
    pub fn judge(&self, holding: &Holding, now: Timestamp) -> Judged {
        let Judge { hosts, provider, failed, verdicts, authority } = *self;
        let Holding { credential, anchors, .. } = holding;
        let mut found = verdicts.faults(credential, anchors, hosts, provider, now);
        let tried = failed.iter().filter(|(credential, _)| *credential == holding.credential);
        found.extend(tried.map(|(_, fault)| fault.clone()));
        if matches!(&holding.staple, Some(Ok(staple)) if staple.revoked) {
            found.insert(0, Unfit::Revoked.into());
        }
        if authority.is_some_and(|authority| authority.is_blocked(credential.facts())) {
            found.insert(0, CredentialFault::new(Unfit::Revoked, "the site has blocked it"));
        }
        Judged { credential: holding.credential.clone(), faults: found }
    }
}
