//! Checks whether a client would accept a credential now.
//!
//! Applies the checks of a TLS client (RFC 5280, RFC 9525) and is a little stricter: a credential
//! that an older or another client would refuse is refused here, before a client connects.

use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::anchor::{Anchor, AnchorFault};
use crate::unfit::Unfit;

use super::{Anchors, Credential, CredentialFault, Facts, KeyKind, limits, walk};

/// The requirements for a credential.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Every name by which clients reach the site system; all must be covered.
    pub hosts: &'a [ServerName<'static>],
    /// The roots that clients are assumed to trust.
    pub anchors: &'a Anchors,
    /// The cryptography that clients are assumed to support.
    pub provider: &'a CryptoProvider,
}

/// Checks whether a client would accept the credential at that time.
///
/// # Errors
/// The most relevant of its faults.
pub fn check(
    credential: &Credential,
    expected: &Expectation<'_>,
    now: Timestamp,
) -> Result<(), CredentialFault> {
    faults(credential, expected, now).into_iter().next().map_or(Ok(()), Err)
}

/// All faults of the credential at that time, the most relevant first: those that make the others
/// meaningless, then those that time or further files resolve, then those that need a new
/// certificate. Each reason appears once; an empty list means fit.
pub fn faults(
    credential: &Credential,
    expected: &Expectation<'_>,
    now: Timestamp,
) -> Vec<CredentialFault> {
    let facts = credential.facts();
    let mut faults: Vec<CredentialFault> = [
        key(credential),
        facts.is_ca.then(|| CredentialFault::from(Unfit::IsAuthority)),
        validity(facts, now),
        names(credential, expected.hosts),
        usage(facts),
        (!facts.signature_strong)
            .then(|| CredentialFault::new(Unfit::SignatureWeak, facts.signature.clone())),
        (!facts.critical_unknown.is_empty())
            .then(|| CredentialFault::new(Unfit::CriticalUnknown, limits::extensions(facts))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Err(fault) = path(credential, expected, now)
        && !faults.iter().any(|known| known.unfit == fault.unfit)
    {
        faults.push(fault);
    }
    faults
}

fn key(credential: &Credential) -> Option<CredentialFault> {
    let facts = credential.facts();
    match (facts.key, facts.key_bits) {
        (KeyKind::Rsa, bits) if bits < 2048 => {
            return Some(CredentialFault::new(Unfit::KeyWeak, format!("RSA of {bits} bits")));
        }
        (KeyKind::Other, _) => return Some(CredentialFault::new(Unfit::KeyWeak, "unusable kind")),
        (KeyKind::Rsa | KeyKind::P256 | KeyKind::P384, _) => {}
    }
    let fault = credential.certified_key().err()?;
    // The certificate's own key is strong, so a key that the library cannot load is not of the
    // certificate's kind.
    Some(match fault.unfit {
        Unfit::KeyWeak => {
            CredentialFault::new(Unfit::Malformed, "key: not of the certificate's key type")
        }
        _ => fault,
    })
}

fn validity(facts: &Facts, now: Timestamp) -> Option<CredentialFault> {
    if facts.valid_at(now) {
        None
    } else if now < facts.not_before {
        Some(CredentialFault::new(Unfit::NotYetValid, format!("valid from {}", facts.not_before)))
    } else {
        Some(CredentialFault::new(Unfit::Expired, format!("valid until {}", facts.not_after)))
    }
}

fn names(credential: &Credential, hosts: &[ServerName<'static>]) -> Option<CredentialFault> {
    let leaf = EndEntityCert::try_from(credential.chain().first()?).ok()?;
    let missing: Vec<_> = hosts
        .iter()
        .filter(|host| leaf.verify_is_valid_for_subject_name(host).is_err())
        .map(|host| host.to_str().into_owned())
        .collect();
    (!missing.is_empty()).then(|| {
        CredentialFault::new(Unfit::NameMismatch, format!("not for {}", missing.join(", ")))
    })
}

/// RFC 5280 lets a certificate without extended key usages serve every purpose, and clients follow;
/// Configuration Manager requires serverAuth explicitly, and so does this check.
fn usage(facts: &Facts) -> Option<CredentialFault> {
    if !facts.server_auth() {
        Some(CredentialFault::new(
            Unfit::UsageMismatch,
            format!("only for [{}]", facts.usages.join(", ")),
        ))
    } else if !facts.may_sign {
        Some(CredentialFault::new(Unfit::UsageMismatch, "its key usage lacks digitalSignature"))
    } else {
        None
    }
}

/// Builds the path to an anchor, at a time at which the leaf itself is valid, so that an expired
/// leaf does not hide an untrusted one.
fn path(
    credential: &Credential,
    expected: &Expectation<'_>,
    now: Timestamp,
) -> Result<(), CredentialFault> {
    let facts = credential.facts();
    let (leaf, issuers) =
        credential.chain().split_first().ok_or_else(|| CredentialFault::from(Unfit::Incomplete))?;
    let at = now.as_second().min(facts.not_after.as_second()).max(facts.not_before.as_second());
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap_or(0)));
    let trusted = expected.anchors.trusted_for(leaf, now);
    let translated = |error: webpki::Error| {
        let fault = translate(&error);
        match limits::told(credential, expected.anchors, &error) {
            Some(told) => {
                CredentialFault::new(fault.unfit, format!("in the chain to a root: {told}"))
            }
            None => fault,
        }
    };
    let leaf = EndEntityCert::try_from(leaf).map_err(translated)?;
    let algorithms = expected.provider.signature_verification_algorithms.all;
    let verify = |roots: &[TrustAnchor<'static>]| -> Result<TrustAnchor<'static>, webpki::Error> {
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(algorithms, roots, issuers, at, usage, None, None)
            .map(|path| path.anchor().to_owned())
    };
    let Err(error) = verify(&trusted) else { return Ok(()) };
    if expected.anchors.process_more()
        && limits::told(credential, expected.anchors, &error).is_some()
        && walk::leads_to_a_root(credential, expected.anchors, now)
    {
        return Ok(());
    }
    // Whether the path is valid except for its root's validity.
    let end = verify(&expected.anchors.all()).map_err(translated)?;
    let root = expected
        .anchors
        .iter()
        .find(|anchor| *anchor.trusted() == end && anchor.fit_at(now).is_err());
    Err(root.map_or_else(|| Unfit::Untrusted.into(), |root| unfit_root(root, now)))
}

fn unfit_root(root: &Anchor, now: Timestamp) -> CredentialFault {
    let Err(fault) = root.fit_at(now) else { return Unfit::Untrusted.into() };
    let unfit = match &fault {
        AnchorFault::Expired(_) => Unfit::Expired,
        AnchorFault::NotYetValid(_) => Unfit::NotYetValid,
        AnchorFault::NoAuthority => Unfit::Untrusted,
        AnchorFault::CriticalUnknown(_) => Unfit::CriticalUnknown,
    };
    CredentialFault::new(unfit, format!("its root {} {fault}", root.subject()))
}

fn translate(error: &webpki::Error) -> CredentialFault {
    use webpki::Error;
    let unfit = match error {
        Error::CertExpired { .. } => Unfit::Expired,
        Error::CertNotValidYet { .. } => Unfit::NotYetValid,
        Error::CaUsedAsEndEntity => Unfit::IsAuthority,
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => Unfit::UsageMismatch,
        Error::NameConstraintViolation => Unfit::Constrained,
        Error::UnsupportedCriticalExtension => Unfit::CriticalUnknown,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Unfit::SignatureWeak,
        Error::BadDer
        | Error::BadDerTime
        | Error::TrailingData(_)
        | Error::InvalidCertValidity
        | Error::ExtensionValueInvalid
        | Error::MalformedExtensions
        | Error::UnsupportedCertVersion => Unfit::Malformed,
        _ => Unfit::Untrusted,
    };
    CredentialFault::new(unfit, format!("in the chain to a root: {error:?}"))
}

#[cfg(test)]
mod tests;
