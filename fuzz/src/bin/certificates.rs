//! Certificates and keys as PEM, DER and PFX, stapled OCSP responses, CRLs and client authorities.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustls::crypto::CryptoProvider;
use sitegate::cert::{Anchors, Credential, Source, Staple, pfx};
use sitegate::client::{Authorities, Crls};

static PROVIDER: LazyLock<CryptoProvider> =
    LazyLock::new(rustls::crypto::aws_lc_rs::default_provider);

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (what, one, other) = input;
    match what % 5 {
        0 => {
            let key = (!other.is_empty()).then_some(other);
            let _ = Credential::parse(one, key, Source::Pki, &PROVIDER);
        }
        1 => {
            if let Ok(password) = std::str::from_utf8(other) {
                let _ = pfx::open(one, password, Source::Pki, &PROVIDER);
            }
        }
        2 => {
            if let Ok(credential) = Credential::parse(one, None, Source::Pki, &PROVIDER) {
                let none: [&rustls_pki_types::CertificateDer<'_>; 0] = [];
                let _ = Staple::read(other, &credential, &Anchors::lenient(none), &PROVIDER);
            }
        }
        3 => drop(Crls::parse(one)),
        _ => drop(Authorities::parse(one)),
    }
});
