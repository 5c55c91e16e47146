//! Whether a client would accept a credential now.
//!
//! Looks with the eyes of a TLS client (RFC 5280, RFC 9525) and a little stricter: what an older or
//! another client would refuse is refused here, before anyone connects.

use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::anchor::{Anchor, AnchorFault};
use crate::unfit::Unfit;

use super::{Anchors, Credential, Facts, Fault, KeyKind, limits, walk};

/// What a credential has to live up to.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Every name by which clients reach the site system; all must be covered.
    pub hosts: &'a [ServerName<'static>],
    /// The roots that clients are taken to trust.
    pub anchors: &'a Anchors,
    /// The cryptography that clients are taken to know.
    pub provider: &'a CryptoProvider,
}

/// Whether a client would accept the credential at that time.
///
/// # Errors
/// The most telling of its faults.
pub fn check(
    credential: &Credential,
    expected: &Expectation<'_>,
    now: Timestamp,
) -> Result<(), Fault> {
    faults(credential, expected, now).into_iter().next().map_or(Ok(()), Err)
}

/// Everything that is wrong with the credential at that time, the most telling first: what makes
/// the rest meaningless, then what time mends or brings, then what a new issue must change. Each
/// reason stands once; an empty list means fit.
pub fn faults(credential: &Credential, expected: &Expectation<'_>, now: Timestamp) -> Vec<Fault> {
    let facts = credential.facts();
    let mut faults: Vec<Fault> = [
        key(credential),
        facts.is_ca.then(|| Fault::from(Unfit::IsAuthority)),
        validity(facts, now),
        names(credential, expected.hosts),
        usage(facts),
        (!facts.signature_strong)
            .then(|| Fault::new(Unfit::SignatureWeak, facts.signature.clone())),
        (!facts.critical_unknown.is_empty())
            .then(|| Fault::new(Unfit::CriticalUnknown, limits::extensions(facts))),
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

fn key(credential: &Credential) -> Option<Fault> {
    let facts = credential.facts();
    match (facts.key, facts.key_bits) {
        (KeyKind::Rsa, bits) if bits < 2048 => {
            return Some(Fault::new(Unfit::KeyWeak, format!("RSA of {bits} bits")));
        }
        (KeyKind::Other, _) => return Some(Fault::new(Unfit::KeyWeak, "unusable kind")),
        (KeyKind::Rsa | KeyKind::P256 | KeyKind::P384, _) => {}
    }
    let fault = credential.certified_key().err()?;
    // The certificate's own key is strong, so what the library cannot load is no such key.
    Some(match fault.unfit {
        Unfit::KeyWeak => Fault::new(Unfit::Malformed, "key: not a key of the certificate's kind"),
        _ => fault,
    })
}

fn validity(facts: &Facts, now: Timestamp) -> Option<Fault> {
    if facts.valid_at(now) {
        None
    } else if now < facts.not_before {
        Some(Fault::new(Unfit::NotYetValid, format!("valid from {}", facts.not_before)))
    } else {
        Some(Fault::new(Unfit::Expired, format!("valid until {}", facts.not_after)))
    }
}

fn names(credential: &Credential, hosts: &[ServerName<'static>]) -> Option<Fault> {
    let leaf = EndEntityCert::try_from(credential.chain().first()?).ok()?;
    let missing: Vec<_> = hosts
        .iter()
        .filter(|host| leaf.verify_is_valid_for_subject_name(host).is_err())
        .map(|host| host.to_str().into_owned())
        .collect();
    (!missing.is_empty())
        .then(|| Fault::new(Unfit::NameMismatch, format!("not for {}", missing.join(", "))))
}

/// RFC 5280 lets a certificate without extended key usages serve for everything, and clients
/// follow; Configuration Manager asks for serverAuth by name, and so do we.
fn usage(facts: &Facts) -> Option<Fault> {
    if !facts.server_auth() {
        Some(Fault::new(Unfit::UsageMismatch, format!("only for [{}]", facts.usages.join(", "))))
    } else if !facts.may_sign {
        Some(Fault::new(Unfit::UsageMismatch, "its key usage lacks digitalSignature"))
    } else {
        None
    }
}

/// Find the way up to an anchor, at a time at which the leaf itself is valid, so that an expired
/// leaf does not hide whether anyone trusted it.
fn path(credential: &Credential, expected: &Expectation<'_>, now: Timestamp) -> Result<(), Fault> {
    let facts = credential.facts();
    let (leaf, issuers) =
        credential.chain().split_first().ok_or_else(|| Fault::from(Unfit::Incomplete))?;
    let at = now.as_second().min(facts.not_after.as_second()).max(facts.not_before.as_second());
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap_or(0)));
    let trusted = expected.anchors.trusted_for(leaf, now);
    let translated = |error: webpki::Error| {
        let fault = translate(&error);
        match limits::told(credential, expected.anchors, &error) {
            Some(told) => Fault::new(fault.unfit, format!("on the way to a root: {told}")),
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
    // Whether the way up is good but for its end.
    let end = verify(&expected.anchors.all()).map_err(translated)?;
    let root = expected
        .anchors
        .iter()
        .find(|anchor| *anchor.trusted() == end && anchor.fit_at(now).is_err());
    Err(root.map_or_else(|| Unfit::Untrusted.into(), |root| unfit_root(root, now)))
}

fn unfit_root(root: &Anchor, now: Timestamp) -> Fault {
    let Err(fault) = root.fit_at(now) else { return Unfit::Untrusted.into() };
    let unfit = match &fault {
        AnchorFault::Expired(_) => Unfit::Expired,
        AnchorFault::NotYetValid(_) => Unfit::NotYetValid,
        AnchorFault::NoAuthority => Unfit::Untrusted,
        AnchorFault::CriticalUnknown(_) => Unfit::CriticalUnknown,
    };
    Fault::new(unfit, format!("its root {} {fault}", root.subject()))
}

fn translate(error: &webpki::Error) -> Fault {
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
    Fault::new(unfit, format!("on the way to a root: {error:?}"))
}

#[cfg(test)]
mod tests;
