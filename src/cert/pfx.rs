//! Reads a credential from a PFX file (PKCS#12, RFC 7292), the export format of Windows and most
//! PKIs.
//!
//! One of two files that use p12_keystore. Bounds the work that a file can demand before doing it,
//! and never shows a password or key.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::asn1_rs::{Any, FromDer, Tag};

use crate::unfit::Unfit;

use super::facts::{Outline, outline};
use super::{Anchors, Credential, CredentialFault, Source, pfx_form};

/// The most key derivation iterations that a file may demand, over all its parts: exporters write a
/// few thousand, careful ones some hundred thousand. Each file is opened once, on the control
/// plane's own thread.
const ROUNDS_MAX: u64 = 2_000_000;
/// Enough for a chain of more than thirty certificates. The encrypted part may hide further keys,
/// each with its own iterations up to the library's bound, so the possible work grows with the
/// file's length.
const LEN_MAX: usize = 64 * 1024;
/// The nesting depth beyond which nothing is examined. Exporters need less than twenty.
const DEPTH_MAX: usize = 32;

/// A credential and the CA certificates in its file.
pub struct OpenedPfx {
    /// Chain and key, not yet checked.
    pub credential: Credential,
    /// The roots in the file, as anchors, or if there are none, every CA certificate in it.
    pub anchors: Option<Anchors>,
}

/// Opens a PFX with its password, which may be empty, and takes the one key in it with its chain.
///
/// # Errors
/// [`Unfit::Malformed`], [`Unfit::PfxProtection`], [`Unfit::PasswordWrong`], [`Unfit::KeySeveral`]
/// or [`Unfit::Incomplete`], with details.
pub fn open(
    der: &[u8],
    password: &str,
    source: Source,
    provider: &CryptoProvider,
) -> Result<OpenedPfx, CredentialFault> {
    let undone = pfx_form::of_base64(der);
    let der = undone.as_ref().map_or(der, |der| der.as_slice());
    let otherwise = |fault: CredentialFault| match pfx_form::told(der, password, &fault) {
        Some((unfit, why)) => CredentialFault::new(unfit, why),
        None => fault,
    };
    bounded(der).map_err(otherwise)?;
    let archive = Pkcs12Archive::from_pkcs12(der, password).map_err(translate);
    let archive = archive.map_err(otherwise)?;
    let mut keys: Vec<&[u8]> = archive.keys.iter().map(|bag| bag.key.as_der()).collect();
    keys.dedup();
    match keys.len() {
        0 => return Err(CredentialFault::new(Unfit::Incomplete, "no private key")),
        1 => {}
        n => return Err(CredentialFault::new(Unfit::KeySeveral, format!("{n} keys"))),
    }
    let keys = keys.into_iter().map(|key| PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)));
    let keys: Vec<PrivateKeyDer<'static>> = keys.map(|key| key.clone_key()).collect();
    let certificates: Vec<CertificateDer<'static>> =
        archive.certs.iter().map(|bag| bag.cert.as_der().to_vec().into()).collect();
    if certificates.is_empty() {
        return Err(CredentialFault::new(Unfit::Incomplete, "no certificate"));
    }
    let authorities: Vec<_> = certificates
        .iter()
        .filter_map(|der| Some((outline(der).ok().filter(|found| found.facts.is_ca)?, der)))
        .collect();
    // If the root is included, clients trust it, and the CAs below it only through it.
    let is_root = |(found, _): &&(Outline, &CertificateDer<'_>)| found.subject == found.issuer;
    let roots: Vec<_> = authorities.iter().filter(is_root).map(|(_, der)| *der).collect();
    let anchors = if roots.is_empty() {
        Anchors::lenient(authorities.iter().map(|(_, der)| *der))
    } else {
        Anchors::lenient(roots)
    };
    let anchors = Some(anchors).filter(|anchors| !anchors.is_empty());
    let credential = Credential::from_der(certificates, keys, source, provider)?;
    Ok(OpenedPfx { credential, anchors })
}

/// The library's messages could quote the file's contents, so they are not passed on.
fn translate(error: Error) -> CredentialFault {
    match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => {
            Unfit::PasswordWrong.into()
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            CredentialFault::new(Unfit::PfxProtection, pfx_form::UNKNOWN)
        }
        Error::UnsupportedContentType => CredentialFault::new(
            Unfit::PfxProtection,
            "protected by a public key instead of a password",
        ),
        Error::InvalidPrivateKey => {
            CredentialFault::new(Unfit::Malformed, "a key in it is not PKCS#8")
        }
        _ => CredentialFault::new(Unfit::Malformed, "not well-formed PKCS#12"),
    }
}

/// Checks that opening the file takes bounded time and memory, as far as its unencrypted part
/// shows: the parameters of its MAC and of everything that is encrypted at the top level. The
/// parameters within the encrypted parts need the password; the library bounds each of those parts,
/// and the file's length bounds their number.
fn bounded(der: &[u8]) -> Result<(), CredentialFault> {
    let refused = |what: String| Err(CredentialFault::new(Unfit::PfxProtection, what));
    if der.len() > LEN_MAX {
        return refused(format!("{} bytes, at most {LEN_MAX} are accepted", der.len()));
    }
    let whole = Any::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
    let Some((_, whole)) = whole.filter(|(_, any)| any.tag() == Tag::Sequence) else {
        return Err(CredentialFault::new(Unfit::Malformed, "not PKCS#12 in DER, or cut short"));
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
    /// Adds up the work that the parameters demand. They are recognized by their form: a salt
    /// followed by an iteration count (RFC 7292 §4 and appendix C, RFC 8018 A.2), or by scrypt's
    /// three numbers (RFC 7914 §7).
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
                    // The whole content is within an octet string, and so is each of its parts: one
                    // sequence that fills it. Encrypted data is not a sequence, and sometimes
                    // begins like a salt followed by a number.
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
