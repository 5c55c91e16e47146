//! The client certificate of a connection, as one of its requests sees it.
//!
//! Judged for each request, so that what is revoked is refused on open connections too. Knows
//! neither pingora nor TLS.

use std::sync::Arc;

use jiff::Timestamp;

use super::policy::SitePolicy;
use crate::client::{Presented, Verdict};
use crate::front::ConnInfo;

/// What a connection proved, and whether it is good now.
#[derive(Debug)]
pub struct ClientCertificate<'a> {
    presented: &'a Presented,
    verdict: Verdict,
}

/// The certificate of a connection, where its site system asks for one. The connection's own site
/// system is meant: one that another asked for is nothing here.
pub fn certificate_of<'a>(
    conn: &'a ConnInfo,
    site: &SitePolicy,
    now: Timestamp,
) -> Option<ClientCertificate<'a>> {
    let trust = site.clients.as_ref()?.load();
    let presented = conn.certificate.as_ref().filter(|_| conn.site == site.name)?;
    Some(ClientCertificate { presented, verdict: presented.verdict(&trust, now) })
}

impl ClientCertificate<'_> {
    /// Whether it is good, or why not.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Its SHA-256 thumbprint, if it is good.
    pub fn good(&self) -> Option<&Arc<str>> {
        self.verdict.is_ok().then(|| self.presented.sha256())
    }

    /// Its SHA-256 thumbprint, good or not.
    pub fn sha256(&self) -> &Arc<str> {
        self.presented.sha256()
    }

    /// Whether a token with that `x5t#S256` is bound to it.
    pub fn is(&self, x5t_s256: &str) -> bool {
        self.presented.is(x5t_s256)
    }
}
