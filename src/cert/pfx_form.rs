//! Recognizes files that are misnamed as PFX and PFX variants that are not supported, for a
//! specific error message.
//!
//! Opens nothing, and never shows a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::encoding::decode;
use crate::unfit::Unfit;

use super::CredentialFault;

/// PBMAC1 (RFC 9579), as an OBJECT IDENTIFIER in DER.
const PBMAC1: &[u8] = &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 5, 14];

/// A PFX in base64, as vaults and pipelines provide it; `None` if the bytes are not one.
pub(super) fn of_base64(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = decode(bytes);
    // Base64 of a SEQUENCE begins with M.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'M') {
        return None;
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    plain.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    STANDARD.decode(&*plain).ok().map(Zeroizing::new).filter(|der| der.first() == Some(&0x30))
}

/// The text for an unknown algorithm.
pub(super) const UNKNOWN: &str = "an unknown algorithm";

/// Why a file could not be opened as PKCS#12 in DER, if its form says more than the fault.
pub(super) fn told(
    bytes: &[u8],
    password: &str,
    fault: &CredentialFault,
) -> Option<(Unfit, &'static str)> {
    let has = |wanted: &[u8]| memchr::memmem::find(bytes, wanted).is_some();
    let malformed = fault.unfit == Unfit::Malformed;
    if (malformed || fault.detail == UNKNOWN) && has(PBMAC1) {
        let why = "its integrity is protected by PBMAC1 (RFC 9579), which is not supported: export \
                   it with an HMAC of SHA-256, without pbmac1";
        return Some((Unfit::PfxProtection, why));
    }
    if !malformed {
        return None;
    }
    if memchr::memmem::find(&decode(bytes), b"-----BEGIN ").is_some() {
        let why = "PEM under the name of a PFX: name it tls.crt, and its key tls.key";
        return Some((Unfit::Malformed, why));
    }
    if bytes.starts_with(&[0xFE, 0xED, 0xFE, 0xED]) || bytes.starts_with(&[0xCE, 0xCE, 0xCE, 0xCE])
    {
        let why = "a Java keystore: make a PFX of it with keytool -importkeystore \
                   -deststoretype PKCS12";
        return Some((Unfit::Malformed, why));
    }
    // An indefinite length of the whole file, or a content in segments.
    if bytes.starts_with(&[0x30, 0x80]) || bytes.first() == Some(&0x30) && has(&[0x24, 0x80, 4]) {
        let why = "PKCS#12 in BER, as pk12util and some Java tools write it, which is not \
                   supported: export it again with openssl pkcs12 or from Windows";
        return Some((Unfit::Malformed, why));
    }
    if bytes.first() == Some(&0x30) && password.chars().any(|c| c > '\u{ffff}') {
        let why = "a password with characters beyond U+FFFF is not supported: export it with \
                   another password";
        return Some((Unfit::PfxProtection, why));
    }
    None
}

#[cfg(test)]
mod tests {
    use sitegate_forge::{ForgeError, Order, Pki, Protection, pfx};

    use super::*;
    use crate::cert::{Source, pfx::open};
    use crate::clock::second;

    const NOW: i64 = 1_800_000_000;

    fn file(password: &str) -> Result<Vec<u8>, ForgeError> {
        let pki = Pki::new("Contoso", second(NOW)).unwrap();
        let forged = pki.issue(&Order::fit(&["mp01"], second(NOW))).unwrap();
        pfx((&forged.chain, &forged.key), password, Protection::Modern, 4)
    }

    fn fault(bytes: &[u8], password: &str) -> Option<(Unfit, String)> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let opened = open(bytes, password, Source::Pki, &provider);
        opened.err().map(|fault| (fault.unfit, fault.detail))
    }

    #[test]
    fn a_pfx_that_was_made_text_opens() {
        let der = file("x").unwrap();
        let text = STANDARD.encode(&der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let utf16 = [0xfeff].into_iter().chain(text.encode_utf16());
        for form in [
            text.clone().into_bytes(),
            lines.join("\r\n").into_bytes(),
            format!("\u{feff}{text}\n").into_bytes(),
            utf16.flat_map(u16::to_le_bytes).collect(),
        ] {
            assert_eq!(fault(&form, "x"), None);
            assert_eq!(fault(&form, "y"), Some((Unfit::PasswordWrong, String::new())));
        }
        let cut = &text.as_bytes()[..text.len() / 2 / 4 * 4];
        assert_eq!(fault(cut, "x").unwrap().0, Unfit::Malformed);
        assert_eq!(fault(b"Mnot base64", "x").unwrap().0, Unfit::Malformed);
    }

    #[test]
    fn what_is_not_read_is_called_by_its_name() {
        let der = file("x").unwrap();
        let forged = {
            let pki = Pki::new("Contoso", second(NOW)).unwrap();
            pki.issue(&Order::fit(&["mp01"], second(NOW))).unwrap()
        };
        let pem = format!("{}{}", forged.chain, *forged.key);
        let ber = [&[0x30, 0x80, 2, 1, 3, 0x30, 0x80][..], &[0; 40]].concat();
        // The algorithm of the MAC, changed to PBMAC1.
        let sha256 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
        let at = der.windows(11).rposition(|w| w == sha256).unwrap();
        let mut pbmac1 = der.clone();
        pbmac1[at..at + 11].copy_from_slice(PBMAC1);
        for (bytes, password, unfit, told) in [
            (pem.as_bytes(), "x", Unfit::Malformed, "PEM under the name of a PFX"),
            (b"\xFE\xED\xFE\xED\0\0\0\x02", "x", Unfit::Malformed, "a Java keystore"),
            (b"\xCE\xCE\xCE\xCE\0\0\0\x02", "x", Unfit::Malformed, "a Java keystore"),
            (&ber, "x", Unfit::Malformed, "PKCS#12 in BER"),
            (&pbmac1, "x", Unfit::PfxProtection, "PBMAC1"),
            (&der, "\u{1f511}", Unfit::PfxProtection, "beyond U+FFFF"),
        ] {
            let (found, detail) = fault(bytes, password).unwrap();
            assert_eq!(found, unfit, "{detail}");
            assert!(detail.contains(told), "{told}: {detail}");
        }
        assert_eq!(fault(&der, "x"), None);
        assert_eq!(fault(b"", "\u{1f511}").unwrap().0, Unfit::Malformed);
    }
}
