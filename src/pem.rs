//! Reads certificates, keys and CRLs from files: PEM, DER and PKCS#7, in every text encoding.
//!
//! The only PEM parser. A file is read completely or refused: no part of it is lost because of how
//! files were concatenated or truncated.

use std::fmt;

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::{CertificateRevocationList, SubjectPublicKeyInfo, X509Certificate};
use zeroize::Zeroizing;

use crate::encoding::decode;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The longest label that is recognized.
const LABEL_BYTES_MAX: usize = 64;

/// One part of a file. Whether its contents match the label is for the caller to check.
#[derive(Debug)]
pub enum PemPart {
    /// A certificate.
    Certificate(CertificateDer<'static>),
    /// An unencrypted private key.
    Key(PrivateKeyDer<'static>),
    /// An encrypted private key.
    EncryptedKey,
    /// A SubjectPublicKeyInfo.
    PublicKey(Vec<u8>),
    /// A CRL.
    Crl(Vec<u8>),
    /// A section with invalid Base64.
    Broken,
    /// An irrelevant section.
    Other,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFault {
    /// It ends within a section: perhaps it is still being written.
    Cut,
    /// It ends within the line that begins or ends a section.
    CutLabel,
    /// Any other fault.
    Malformed,
}

impl PemFault {
    /// Whether the rest of the file could fix it.
    pub fn is_cut(self) -> bool {
        self != PemFault::Malformed
    }
}

impl fmt::Display for PemFault {
    /// Never quotes the file, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PemFault::Cut => "ends before its PEM does",
            PemFault::CutLabel => "ends within a PEM label",
            PemFault::Malformed => "not well-formed PEM",
        })
    }
}

impl std::error::Error for PemFault {}

/// Every part of a file, in its order. Other data than PEM, DER or PKCS#7 gives no parts.
///
/// # Errors
/// [`PemFault`] if the boundaries of the PEM sections are not clear.
pub fn parts(bytes: &[u8]) -> Result<Vec<PemPart>, PemFault> {
    let text = decode(bytes);
    if text.first() == Some(&0x30) && find(&text, BEGIN).is_none() {
        return Ok(of_der(&text));
    }
    let mut parts = Vec::new();
    let mut rest = &*text;
    while let Some(section) = Section::next(&mut rest)? {
        section.read(&mut parts);
    }
    Ok(parts)
}

/// The certificates of a file, in its order.
///
/// # Errors
/// [`PemFault`] if any PEM section cannot be read.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let certificate = |part| match part {
        PemPart::Certificate(der) => Some(Ok(der)),
        PemPart::Broken => Some(Err(PemFault::Malformed)),
        _ => None,
    };
    parts(bytes)?.into_iter().filter_map(certificate).collect()
}

/// The first private key of a file; `None` if there is no unencrypted one.
pub fn private_key(bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let key = |part| match part {
        PemPart::Key(key) => Some(key),
        _ => None,
    };
    parts(bytes).ok()?.into_iter().find_map(key)
}

/// A section of PEM (RFC 7468 §2). Lines may be joined: many tools write no final newline, and
/// appended sections then begin on the same line.
struct Section<'a> {
    label: &'a [u8],
    body: &'a [u8],
}

impl<'a> Section<'a> {
    /// The next section, which is consumed from the text.
    fn next(text: &mut &'a [u8]) -> Result<Option<Self>, PemFault> {
        let Some((before, after)) = split(text, BEGIN) else {
            // An END without its BEGIN, or the first characters of a BEGIN.
            let line = text.rsplit(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
            let dashes = line.iter().position(|b| *b == b'-');
            let tail = dashes.and_then(|at| line.get(at..)).unwrap_or_default();
            return match find(text, END) {
                Some(_) => Err(PemFault::Malformed),
                None if tail.len() >= DASHES.len() && BEGIN.starts_with(tail) => {
                    Err(PemFault::CutLabel)
                }
                None => Ok(None),
            };
        };
        if find(before, END).is_some() {
            return Err(PemFault::Malformed);
        }
        let (label, after) = label(after)?;
        let (body, after) = split(after, END).ok_or(PemFault::Cut)?;
        if find(body, BEGIN).is_some() {
            return Err(PemFault::Malformed);
        }
        let (ended, after) = self::label(after)?;
        *text = after;
        if ended == label { Ok(Some(Section { label, body })) } else { Err(PemFault::Malformed) }
    }

    fn read(&self, parts: &mut Vec<PemPart>) {
        let kind = match self.label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" | b"PKCS7" | b"CMS" => SectionKind::Certificate,
            b"PRIVATE KEY" => SectionKind::PrivateKey,
            b"RSA PRIVATE KEY" => SectionKind::RsaPrivateKey,
            b"EC PRIVATE KEY" => SectionKind::EcPrivateKey,
            b"PUBLIC KEY" => SectionKind::PublicKey,
            b"X509 CRL" => SectionKind::Crl,
            b"ENCRYPTED PRIVATE KEY" => return parts.push(PemPart::EncryptedKey),
            _ => return parts.push(PemPart::Other),
        };
        let is_key = matches!(kind, SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey);
        if is_key && find(self.body, b"Proc-Type: 4,ENCRYPTED").is_some() {
            return parts.push(PemPart::EncryptedKey);
        }
        let Some(der) = self.der(kind) else { return parts.push(PemPart::Broken) };
        parts.push(match kind {
            SectionKind::PrivateKey => PemPart::Key(PrivateKeyDer::Pkcs8(der.into())),
            SectionKind::RsaPrivateKey => PemPart::Key(PrivateKeyDer::Pkcs1(der.into())),
            SectionKind::EcPrivateKey => PemPart::Key(PrivateKeyDer::Sec1(der.into())),
            SectionKind::PublicKey => PemPart::PublicKey(der),
            SectionKind::Crl => PemPart::Crl(der),
            // AD CS also uses this label for PKCS#7.
            _ => match pkcs7(&der) {
                Some(found) => return parts.extend(found.into_iter().map(PemPart::Certificate)),
                None => PemPart::Certificate(der.into()),
            },
        });
    }

    /// The decoded Base64. The library decodes it in constant time, because it may be a key.
    fn der(&self, kind: SectionKind) -> Option<Vec<u8>> {
        let label: &[u8] = match kind {
            SectionKind::PrivateKey => b"PRIVATE KEY",
            SectionKind::RsaPrivateKey => b"RSA PRIVATE KEY",
            SectionKind::EcPrivateKey => b"EC PRIVATE KEY",
            _ => b"CERTIFICATE",
        };
        let lines: [&[u8]; 8] =
            [BEGIN, label, b"-----\n", self.body, b"\n", END, label, b"-----\n"];
        let mut alone = Zeroizing::new(Vec::with_capacity(self.body.len() + 128));
        lines.iter().for_each(|part| alone.extend_from_slice(part));
        let read = <(SectionKind, Vec<u8>)>::from_pem_slice(&alone);
        read.ok().map(|(_, der)| der)
    }
}

/// The text before the dashes, and after them.
fn label(text: &[u8]) -> Result<(&[u8], &[u8]), PemFault> {
    let within = text.get(..LABEL_BYTES_MAX + DASHES.len()).unwrap_or(text);
    match split(within, DASHES) {
        Some((label, _)) if label.contains(&b'\n') || label.contains(&b'\r') => {
            Err(PemFault::Malformed)
        }
        Some((label, _)) => Ok((label, text.get(label.len() + DASHES.len()..).unwrap_or_default())),
        None if within.len() == text.len() && !text.contains(&b'\n') => Err(PemFault::CutLabel),
        None => Err(PemFault::Malformed),
    }
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (before, after) = text.split_at_checked(find(text, at)?)?;
    Some((before, after.get(at.len()..)?))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, wanted)
}

/// Identifies the content of a DER file or of a section.
fn of_der(der: &[u8]) -> Vec<PemPart> {
    let whole = |read: Option<&[u8]>| read.is_some_and(<[u8]>::is_empty);
    if whole(X509Certificate::from_der(der).ok().map(|(rest, _)| rest)) {
        return vec![PemPart::Certificate(der.to_vec().into())];
    }
    if let Some(certificates) = pkcs7(der) {
        return certificates.into_iter().map(PemPart::Certificate).collect();
    }
    if whole(CertificateRevocationList::from_der(der).ok().map(|(rest, _)| rest)) {
        return vec![PemPart::Crl(der.to_vec())];
    }
    if whole(SubjectPublicKeyInfo::from_der(der).ok().map(|(rest, _)| rest)) {
        return vec![PemPart::PublicKey(der.to_vec())];
    }
    PrivateKeyDer::try_from(der.to_vec()).map(PemPart::Key).into_iter().collect()
}

/// The certificates of a PKCS#7 message, which is signed data, mostly without signers (RFC 2315
/// §9.1, RFC 5652 §5.1). `None` if it is not one.
fn pkcs7(der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
    let (rest, message) = Any::from_der(der).ok()?;
    let (content, kind) = Any::from_der(message.data).ok()?;
    let is_signed = message.tag() == Tag::Sequence && kind.tag() == Tag::Oid;
    if !rest.is_empty() || !is_signed || kind.data != SIGNED_DATA {
        return None;
    }
    let (_, content) = Any::from_der(content).ok()?;
    let (_, signed) = Any::from_der(content.data).ok()?;
    let mut fields = signed.data;
    while let Ok((rest, field)) = Any::from_der(fields) {
        if field.class() == Class::ContextSpecific && field.tag().0 == 0 {
            return each(field.data);
        }
        fields = rest;
    }
    Some(Vec::new())
}

/// Concatenated certificates.
fn each(mut data: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let (rest, _) = Any::from_der(data).ok().filter(|(_, any)| any.tag() == Tag::Sequence)?;
        let der = data.get(..data.len() - rest.len())?;
        found.push(der.to_vec().into());
        data = rest;
    }
    Some(found)
}

#[cfg(test)]
mod tests;
