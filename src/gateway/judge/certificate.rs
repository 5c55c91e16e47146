//! The client certificate of a connection, judged for one request.
//!
//! It is judged again for each request, so that a revoked certificate is refused on open
//! connections too. Knows neither pingora nor TLS.

use std::sync::Arc;

use jiff::Timestamp;

use super::policy::SitePolicy;
use crate::client::{CertificateVerdict, Presented};
use crate::front::ConnInfo;

/// The certificate of a connection, and its verdict now.
#[derive(Debug)]
pub struct ClientCertificate<'a> {
    presented: &'a Presented,
    verdict: CertificateVerdict,
}

/// Returns the connection's certificate if its site system requests one. Only the connection's own
/// site system counts: a certificate that another one requested is ignored.
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
    /// Returns whether it is good, or why not.
    pub fn verdict(&self) -> &CertificateVerdict {
        &self.verdict
    }

    /// Returns its SHA-256 thumbprint, if it is good.
    pub fn good(&self) -> Option<&Arc<str>> {
        self.verdict.is_ok().then(|| self.presented.sha256())
    }

    /// Returns its SHA-256 thumbprint, good or not.
    pub fn sha256(&self) -> &Arc<str> {
        self.presented.sha256()
    }

    /// Checks whether a token with that `x5t#S256` is bound to it.
    pub fn is(&self, x5t_s256: &str) -> bool {
        self.presented.is(x5t_s256)
    }
}
