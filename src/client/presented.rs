//! The client certificate chain of a TLS handshake, in which the client has proved possession of
//! the leaf's key.
//!
//! The size is bounded, because an unauthenticated client decides it. Caches only the last verdict.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::judge::{CertificateVerdict, Judgement, judge};
use super::trust::ClientTrust;

/// A leaf, a few CA certificates, and room for cross-signed ones.
const CHAIN_LEN_MAX: usize = 10;
const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// The client certificate of a connection.
pub struct Presented {
    /// Leaf first. Empty if there were too many certificates, or they were too large.
    chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf, upper-case hex.
    sha256: Arc<str>,
    /// The same as base64url, as in tokens.
    x5t_s256: Box<str>,
    last: Mutex<Option<Remembered>>,
}

/// A cached verdict and its inputs. Holds the trust weakly: a CRL may be large, and connections are
/// many.
struct Remembered {
    trust: Weak<ClientTrust>,
    at: Timestamp,
    judgement: Judgement,
}

impl Presented {
    /// From the certificates of a finished handshake, leaf first; `None` if there are none.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first()?;
        let hash = digest::digest(&digest::SHA256, leaf);
        let bytes: usize = chain.iter().map(|der| der.len()).sum();
        let fits = chain.len() <= CHAIN_LEN_MAX && bytes <= CHAIN_BYTES_MAX;
        let kept = if fits { chain } else { &[] };
        Some(Presented {
            chain: kept.iter().map(|der| der.clone().into_owned()).collect(),
            sha256: hex(hash.as_ref()).into(),
            x5t_s256: URL_SAFE_NO_PAD.encode(hash).into(),
            last: Mutex::default(),
        })
    }

    /// The SHA-256 thumbprint of the leaf, upper-case hex.
    pub fn sha256(&self) -> &Arc<str> {
        &self.sha256
    }

    /// The same thumbprint as in tokens: base64url without padding.
    pub fn x5t_s256(&self) -> &str {
        &self.x5t_s256
    }

    /// Whether the leaf has that thumbprint (RFC 8705 §3.1: `x5t#S256`, base64url without padding).
    /// The handshake has proved possession of its key; its issuer is irrelevant here.
    pub fn is(&self, x5t_s256: &str) -> bool {
        *self.x5t_s256 == *x5t_s256
    }

    /// Whether it is valid for that trust at that time. Validates again only when the trust was
    /// replaced, or when time may have changed the result.
    pub fn verdict(&self, trust: &Arc<ClientTrust>, now: Timestamp) -> CertificateVerdict {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remembered) = &*last
            && std::ptr::eq(remembered.trust.as_ptr(), Arc::as_ptr(trust))
            && (remembered.at..remembered.judgement.until).contains(&now)
        {
            return remembered.judgement.verdict;
        }
        let judgement = judge(&self.chain, trust, now);
        let verdict = judgement.verdict;
        *last = Some(Remembered { trust: Arc::downgrade(trust), at: now, judgement });
        verdict
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({})", self.sha256)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}
