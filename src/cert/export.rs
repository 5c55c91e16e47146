//! The forms in which other systems import a root: PEM, `.cer`, `.p7b`.
//!
//! Public parts only.

use rustls_pki_types::CertificateDer;

use crate::pem;
use crate::unfit::Unfit;

use super::CredentialFault;

/// The first certificate of a PEM file as DER: a `.cer` as Windows imports it.
///
/// # Errors
/// [`Unfit::Malformed`] if there is none.
pub fn certificate_der(file: &[u8]) -> Result<CertificateDer<'static>, CredentialFault> {
    let first = pem::certificates(file).ok().and_then(|found| found.into_iter().next());
    first.ok_or_else(|| CredentialFault::new(Unfit::Malformed, "no certificate in PEM"))
}

/// A PKCS#7 message that holds only certificates, as DER: a `.p7b` as Windows imports it (RFC 2315
/// §9.1, the degenerate case without content and signers).
pub fn p7b(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
    const DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01];
    let version = tlv(INTEGER, &[1]);
    let digests = tlv(SET, &[]);
    let content = tlv(SEQUENCE, &tlv(OBJECT_IDENTIFIER, DATA));
    let certificates: Vec<u8> = certificates.iter().flat_map(|der| der.as_ref()).copied().collect();
    let signers = tlv(SET, &[]);
    let signed = tlv(
        SEQUENCE,
        &[version, digests, content, tlv(CONTEXT_0, &certificates), signers].concat(),
    );
    let parts = [tlv(OBJECT_IDENTIFIER, SIGNED_DATA), tlv(CONTEXT_0, &signed)];
    tlv(SEQUENCE, &parts.concat())
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xA0;

/// Tag, length and value in DER (X.690 §8.1.3).
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let bytes = value.len().to_be_bytes();
    let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![tag];
    match (u8::try_from(value.len()), significant.len()) {
        (Ok(short @ 0..0x80), _) => der.push(short),
        (_, octets) => {
            der.push(0x80 | octets as u8);
            der.extend(significant);
        }
    }
    der.extend_from_slice(value);
    der
}
