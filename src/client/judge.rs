//! Validates client certificates: a chain to a trusted CA, validity, client usage, and revocation
//! (RFC 5280 §6).
//!
//! A pure function of certificates, trust and time. Its work is bounded for any client input.

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

/// Valid, or the denial and details for the log.
pub type CertificateVerdict = Result<(), (Denial, &'static str)>;

/// A verdict, and until when time alone cannot change it.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: CertificateVerdict,
    pub(super) until: Timestamp,
}

/// The longest time for which a verdict is cached: not all dates in the chain are known here.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);
/// The most certificates with the same name. A CA with a new key is cross-signed and has two or
/// three; with more, the number of possible paths grows as their factorial.
const NAMESAKES_MAX: usize = 3;

/// Validates a chain, leaf first; an empty one was too large to be stored.
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
    // A CRL is valid through the second in which it expires.
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
) -> CertificateVerdict {
    let untrusted = |why| Err((Denial::CertificateUntrusted, why));
    let Some((leaf, issuers)) = chain.split_first() else {
        return untrusted("the chain has too many certificates or bytes");
    };
    // The chain must consist only of readable certificates.
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
        // Whether the path is valid except for the root's validity.
        let others: Vec<_> =
            trust.anchors().iter().map(|anchor| anchor.trusted().clone()).collect();
        if others.len() > trusted.len() && verify_by(&others, None).is_ok() {
            Err((Denial::CertificateUntrusted, "the authority is not valid now"))
        } else {
            Err(translate(error))
        }
    };
    let lists = trust.lists();
    match (&trust.crls, RevocationOptionsBuilder::new(&lists)) {
        (None, _) => verify(None)?,
        (Some(_), Err(_)) => {
            verify(None)?;
            return Err((Denial::CertificateRevocationUnknown, "there is no CRL"));
        }
        (Some(_), Ok(asked)) => {
            let asked = if trust.expired_crls_count {
                asked
            } else {
                asked.with_expiration_policy(ExpirationPolicy::Enforce)
            };
            // CAs are checked if there is a CRL for them; the client must be covered by one.
            verify(Some(asked.with_status_policy(UnknownStatusPolicy::Allow).build()))?;
            verify(Some(asked.with_depth(RevocationCheckDepth::EndEntity).build()))?;
        }
    }
    // RFC 5280 lets a certificate without extended key usages serve every purpose; Configuration
    // Manager requires clientAuth explicitly, and so does this check.
    match facts.extended_key_usage() {
        Ok(Some(usage)) if usage.value.client_auth => Ok(()),
        _ => Err((Denial::CertificateUsage, "no extended key usage clientAuth")),
    }
}

/// Fixed texts: the library's messages contain client input.
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
            (CertificateUsage, "only for other key usages")
        }
        Error::UnknownIssuer => (CertificateUntrusted, "no chain to a trusted authority"),
        Error::CaUsedAsEndEntity => (CertificateUntrusted, "a certificate of an authority itself"),
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
            (CertificateUntrusted, "the chain is too long")
        }
        _ => (CertificateUntrusted, "not a well-formed chain"),
    }
}

#[cfg(test)]
mod tests;
