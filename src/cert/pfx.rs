//! A credential out of a PFX file (PKCS#12, RFC 7292): what Windows and most PKIs export.
//!
//! One of two files that know p12_keystore. Bounds the work that a file can ask for before any of
//! it is done, and never shows a password or key.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::asn1_rs::{Any, FromDer, Tag};

use crate::unfit::Unfit;

use super::facts::{Outline, outline};
use super::{Anchors, Credential, Fault, Source, pfx_form};

/// Rounds of hashing that a file may ask for, over all its parts: exporters write a few thousand,
/// the careful some hundred thousand. Each file is opened once, on the control plane's own thread.
const ROUNDS_MAX: u64 = 2_000_000;
/// A chain of thirty certificates and more. What is encrypted may hide further keys, each with rounds
/// of its own up to the library's bound, so that what a file may ask for grows with its length.
const LEN_MAX: usize = 64 * 1024;
/// Nesting of a file, beyond which nothing is looked for. Exporters need less than twenty.
const DEPTH_MAX: usize = 32;

/// A credential and the authorities that lay beside it.
pub struct Opened {
    /// Chain and key, not judged yet.
    pub credential: Credential,
    /// The roots in the file, as anchors, or where there are none, every authority in it.
    pub anchors: Option<Anchors>,
}

/// Open a PFX with its password, which may be empty, and take the one key in it with its chain.
///
/// # Errors
/// [`Unfit::Malformed`], [`Unfit::PfxProtection`], [`Unfit::PasswordWrong`], [`Unfit::KeySeveral`]
/// or [`Unfit::Incomplete`], and what was seen.
pub fn open(
    der: &[u8],
    password: &str,
    source: Source,
    provider: &CryptoProvider,
) -> Result<Opened, Fault> {
    let undone = pfx_form::of_base64(der);
    let der = undone.as_ref().map_or(der, |der| der.as_slice());
    let otherwise = |fault: Fault| match pfx_form::told(der, password, &fault) {
        Some((unfit, why)) => Fault::new(unfit, why),
        None => fault,
    };
    bounded(der).map_err(otherwise)?;
    let archive = Pkcs12Archive::from_pkcs12(der, password).map_err(translate);
    let archive = archive.map_err(otherwise)?;
    let mut keys: Vec<&[u8]> = archive.keys.iter().map(|bag| bag.key.as_der()).collect();
    keys.dedup();
    match keys.len() {
        0 => return Err(Fault::new(Unfit::Incomplete, "no private key")),
        1 => {}
        n => return Err(Fault::new(Unfit::KeySeveral, format!("{n} keys"))),
    }
    let keys = keys.into_iter().map(|key| PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)));
    let keys: Vec<PrivateKeyDer<'static>> = keys.map(|key| key.clone_key()).collect();
    let certificates: Vec<CertificateDer<'static>> =
        archive.certs.iter().map(|bag| bag.cert.as_der().to_vec().into()).collect();
    if certificates.is_empty() {
        return Err(Fault::new(Unfit::Incomplete, "no certificate"));
    }
    let authorities: Vec<_> = certificates
        .iter()
        .filter_map(|der| Some((outline(der).ok().filter(|found| found.facts.is_ca)?, der)))
        .collect();
    // Where the root is there, clients trust that, and what lies below it only through it.
    let is_root = |(found, _): &&(Outline, &CertificateDer<'_>)| found.subject == found.issuer;
    let roots: Vec<_> = authorities.iter().filter(is_root).map(|(_, der)| *der).collect();
    let anchors = match roots.is_empty() {
        true => Anchors::lenient(authorities.iter().map(|(_, der)| *der)),
        false => Anchors::lenient(roots),
    };
    let anchors = Some(anchors).filter(|anchors| !anchors.is_empty());
    let credential = Credential::from_der(certificates, keys, source, provider)?;
    Ok(Opened { credential, anchors })
}

/// Its words could quote what is in the file, so they are not passed on.
fn translate(error: Error) -> Fault {
    match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => {
            Unfit::PasswordWrong.into()
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            Fault::new(Unfit::PfxProtection, pfx_form::UNKNOWN)
        }
        Error::UnsupportedContentType => {
            Fault::new(Unfit::PfxProtection, "protected by a public key instead of a password")
        }
        Error::InvalidPrivateKey => Fault::new(Unfit::Malformed, "a key in it is not PKCS#8"),
        _ => Fault::new(Unfit::Malformed, "not well-formed PKCS#12"),
    }
}

/// Whether opening the file takes bounded time and memory, as far as it says so in clear: the
/// parameters of its MAC and of everything that is encrypted at the top. What lies encrypted within
/// can only be said by whoever knows the password; each part of it is bounded by the library, and
/// how many there are by the file's length.
fn bounded(der: &[u8]) -> Result<(), Fault> {
    let refused = |what: String| Err(Fault::new(Unfit::PfxProtection, what));
    if der.len() > LEN_MAX {
        return refused(format!("{} bytes, at most {LEN_MAX} are accepted", der.len()));
    }
    let whole = Any::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
    let Some((_, whole)) = whole.filter(|(_, any)| any.tag() == Tag::Sequence) else {
        return Err(Fault::new(Unfit::Malformed, "not PKCS#12 in DER, or cut short"));
    };
    let mut work = Work::default();
    work.add(whole.data, 0);
    match work {
        Work { scrypt: true, .. } => refused("scrypt".to_owned()),
        Work { rounds, .. } if rounds > ROUNDS_MAX => {
            refused(format!("{rounds} rounds, at most {ROUNDS_MAX} are accepted"))
        }
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Work {
    rounds: u64,
    scrypt: bool,
}

impl Work {
    /// Add up what the parameters below ask for. They are known by their form: a salt followed by
    /// a number of rounds (RFC 7292 §4 and appendix C, RFC 8018 A.2), or by scrypt's three numbers
    /// (RFC 7914 §7).
    fn add(&mut self, content: &[u8], depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let mut rest = content;
        let mut salted = false;
        let mut numbers = 0;
        while let Ok((after, part)) = Any::from_der(rest) {
            rest = after;
            match part.tag() {
                Tag::Integer if salted => {
                    numbers += 1;
                    if numbers == 1 {
                        let rounds = part.as_u64().unwrap_or(u64::MAX);
                        self.rounds = self.rounds.saturating_add(rounds);
                    }
                    self.scrypt |= numbers == 3;
                }
                Tag::OctetString => {
                    salted = true;
                    // The whole of the content is within one, and so is each of its parts: one
                    // sequence that fills it. What is encrypted is neither, and now and then begins
                    // like a salt with a number behind it.
                    if let Ok(([], within)) = Any::from_der(part.data)
                        && within.tag() == Tag::Sequence
                    {
                        self.add(within.data, depth + 1);
                    }
                }
                _ if part.header.is_constructed() => self.add(part.data, depth + 1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
