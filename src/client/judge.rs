//! Whether a client's certificate is good: a way up to a trusted authority, now, for clients, and
//! not revoked (RFC 5280 §6).
//!
//! A pure function of certificates, trust and time. Its work is bounded whatever a client sends.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::trust::ClientTrust;
use crate::anchor::Anchor;
use crate::clock::second;
use crate::denial::Denial;

/// Good, or why not: the denial, and more of it for the log.
pub type Verdict = Result<(), (Denial, &'static str)>;

/// A verdict, and until when it cannot change by the passing of time alone.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) until: Timestamp,
}

/// The longest time for which a verdict is remembered: not all dates on the way are known here.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);
/// Certificates of one name. An authority with a new key is cross-signed and has two or three;
/// with more of them the ways to try grow as their factorial.
const NAMESAKES_MAX: usize = 3;

/// Judge a chain, leaf first; an empty one was too long to be kept.
pub(super) fn judge(
    chain: &[CertificateDer<'_>],
    trust: &ClientTrust,
    now: Timestamp,
) -> Judgement {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, certificate)| certificate)
        .collect();
    let dates = parsed.iter().flat_map(|certificate| {
        let validity = certificate.validity();
        let after = validity.not_after.timestamp().saturating_add(1);
        [second(validity.not_before.timestamp()), second(after)]
    });
    // A list is good through the second in which it expires.
    let lists = trust.moments().filter_map(|at| at.checked_add(SignedDuration::from_secs(1)).ok());
    let latest = now.checked_add(REMEMBERED).unwrap_or(Timestamp::MAX);
    let authorities = trust.anchors().iter().flat_map(Anchor::moments);
    let until = dates.chain(lists).chain(authorities).filter(|at| *at > now).min();
    Judgement {
        verdict: verdict(chain, &parsed, trust, now),
        until: until.map_or(latest, |until| until.min(latest)),
    }
}

fn verdict(
    chain: &[CertificateDer<'_>],
    parsed: &[X509Certificate<'_>],
    trust: &ClientTrust,
    now: Timestamp,
) -> Verdict {
    let untrusted = |why| Err((Denial::CertificateUntrusted, why));
    let Some((leaf, issuers)) = chain.split_first() else {
        return untrusted("the chain has too many certificates or bytes");
    };
    // A client that sends anything but certificates is not worth a guess.
    let Some(facts) = parsed.first().filter(|_| parsed.len() == chain.len()) else {
        return untrusted("a certificate of the chain cannot be read");
    };
    let namesakes = |name: &[u8]| parsed.iter().filter(|c| c.subject().as_raw() == name).count();
    if parsed.iter().any(|c| namesakes(c.subject().as_raw()) > NAMESAKES_MAX) {
        return untrusted("too many certificates of one name in the chain");
    }
    let trusted = trust.trusted(leaf, now);
    let leaf = EndEntityCert::try_from(leaf).map_err(translate)?;
    let verify_by = |anchors: &[TrustAnchor<'static>],
                     revocation: Option<RevocationOptions<'_>>| {
        let at = u64::try_from(now.as_second()).unwrap_or(0);
        leaf.verify_for_usage(
            trust.algorithms,
            anchors,
            issuers,
            UnixTime::since_unix_epoch(Duration::from_secs(at)),
            KeyUsage::client_auth(),
            revocation,
            None,
        )
        .map(|_| ())
    };
    let verify = |revocation: Option<RevocationOptions<'_>>| {
        let error = match verify_by(&trusted, revocation) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Whether the way up is good but for its end.
        let others: Vec<_> =
            trust.anchors().iter().map(|anchor| anchor.trusted().clone()).collect();
        match others.len() > trusted.len() && verify_by(&others, None).is_ok() {
            true => Err((Denial::CertificateUntrusted, "the authority may not be trusted now")),
            false => Err(translate(error)),
        }
    };
    let lists = trust.lists();
    match (&trust.crls, RevocationOptionsBuilder::new(&lists)) {
        (None, _) => verify(None)?,
        (Some(_), Err(_)) => {
            verify(None)?;
            return Err((Denial::CertificateRevocationUnknown, "there is no CRL to ask"));
        }
        (Some(_), Ok(asked)) => {
            let asked = match trust.expired_crls_count {
                true => asked,
                false => asked.with_expiration_policy(ExpirationPolicy::Enforce),
            };
            // Authorities are looked up where there is a list for them; the client must be in one.
            verify(Some(asked.with_status_policy(UnknownStatusPolicy::Allow).build()))?;
            verify(Some(asked.with_depth(RevocationCheckDepth::EndEntity).build()))?;
        }
    }
    // RFC 5280 lets a certificate without extended key usages serve for everything; Configuration
    // Manager asks for clientAuth by name, and so do we.
    match facts.extended_key_usage() {
        Ok(Some(usage)) if usage.value.client_auth => Ok(()),
        _ => Err((Denial::CertificateUsage, "no extended key usage clientAuth")),
    }
}

/// Words of our own: the library's hold what the client sent.
fn translate(error: Error) -> (Denial, &'static str) {
    use Denial::{
        CertificateExpired, CertificateRevocationUnknown, CertificateRevoked, CertificateUntrusted,
        CertificateUsage,
    };
    match error {
        Error::CertExpired { .. } => (CertificateExpired, "expired"),
        Error::CertNotValidYet { .. } => (CertificateExpired, "not valid yet"),
        Error::CertRevoked => (CertificateRevoked, "on a CRL of its issuer"),
        Error::CrlExpired { .. } => (CertificateRevocationUnknown, "the CRL has expired"),
        Error::UnknownRevocationStatus => {
            (CertificateRevocationUnknown, "there is no CRL of its issuer")
        }
        Error::InvalidCrlSignatureForPublicKey
        | Error::IssuerNotCrlSigner
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            (CertificateRevocationUnknown, "the CRL is not signed by the issuer")
        }
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => {
            (CertificateUsage, "only for other usages")
        }
        Error::UnknownIssuer => (CertificateUntrusted, "no way up to a trusted authority"),
        Error::CaUsedAsEndEntity => (CertificateUntrusted, "an authority's own certificate"),
        Error::NameConstraintViolation => {
            (CertificateUntrusted, "outside its authority's name constraints")
        }
        Error::InvalidSignatureForPublicKey => {
            (CertificateUntrusted, "not signed by its issuer's key")
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            (CertificateUntrusted, "signed with an algorithm that is not accepted")
        }
        Error::UnsupportedCriticalExtension => {
            (CertificateUntrusted, "an unknown critical extension")
        }
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => {
            (CertificateUntrusted, "the way up is too long to follow")
        }
        _ => (CertificateUntrusted, "not a well-formed chain"),
    }
}

#[cfg(test)]
mod tests;
