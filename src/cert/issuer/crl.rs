//! Certificate revocation lists (RFC 5280 §5), signed by a CA of the site.
//!
//! Writes nothing; the caller decides which certificates are revoked.

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::Signer;
use crate::cert::facts::hex;
use crate::cert::template::{failed, since_epoch};
use crate::cert::{CredentialFault, certificate_der};
use crate::clock::second;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $word:literal;)+) => {
        /// Why a certificate was revoked (RFC 5280 §5.3.1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RevocationReason { $($(#[doc = $doc])+ $variant,)+ }

        impl RevocationReason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[RevocationReason] = &[$(RevocationReason::$variant,)+];

            /// The word on the command line.
            pub const fn as_str(self) -> &'static str {
                match self { $(RevocationReason::$variant => $word,)+ }
            }

            const fn rcgen(self) -> rcgen::RevocationReason {
                match self { $(RevocationReason::$variant => rcgen::RevocationReason::$variant,)+ }
            }
        }
    };
}

reasons! {
    /// No reason is given.
    Unspecified "unspecified";
    /// Someone else may have the key.
    KeyCompromise "key-compromise";
    /// Names or the like have changed.
    AffiliationChanged "affiliation-changed";
    /// Another certificate has replaced it.
    Superseded "superseded";
    /// Its purpose no longer exists.
    CessationOfOperation "cessation-of-operation";
    /// It may no longer be used.
    PrivilegeWithdrawn "privilege-withdrawn";
}

/// A certificate on a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The reason.
    pub reason: RevocationReason,
    /// Since when.
    pub at: Timestamp,
}

/// The fields of a CRL that decide whether a new one is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlOutline {
    /// Its number; 0 if it has no readable one.
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// The serial numbers on it, hexadecimal without leading zeros, in order.
    pub serials: Vec<String>,
}

impl Signer {
    /// Signs a CRL, as DER, that is valid for `life` from now on. `number` must be higher than the
    /// earlier ones.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`](crate::unfit::Unfit::NotIssued) with the cryptography's error.
    pub fn crl(
        &self,
        revoked: &[Revocation],
        number: u64,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<u8>, CredentialFault> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let until = now.checked_add(life).unwrap_or(Timestamp::MAX);
        let entry = |revocation: &Revocation| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes(&revocation.serial)),
            revocation_time: epoch + since_epoch(revocation.at),
            // RFC 5280 §5.3.1: an unspecified reason is left out.
            reason_code: (revocation.reason != RevocationReason::Unspecified)
                .then(|| revocation.reason.rcgen()),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: epoch + since_epoch(now),
            next_update: epoch + since_epoch(until),
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer).map_err(failed)?.der().to_vec())
    }

    /// Reads a CRL that this CA's key has signed; `None` for anything else.
    pub fn own_crl(&self, der: &[u8]) -> Option<CrlOutline> {
        let own = certificate_der(self.certificate.as_bytes()).ok()?;
        let (_, own) = x509_parser::parse_x509_certificate(&own).ok()?;
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        list.verify_signature(own.public_key()).ok()?;
        let serial = |entry: &x509_parser::prelude::RevokedCertificate<'_>| {
            plain_serial(&hex(entry.raw_serial()))
        };
        let mut serials: Vec<String> = list.iter_revoked_certificates().map(serial).collect();
        serials.sort();
        let number = list.crl_number().map(|number| number.to_u64_digits());
        Some(CrlOutline {
            number: number.and_then(|digits| digits.first().copied()).unwrap_or(0),
            this_update: second(list.last_update().timestamp()),
            serials,
        })
    }
}

/// A serial number without leading zeros, which DER needs and people do not write.
pub(super) fn plain_serial(hex: &str) -> String {
    hex.trim_start_matches('0').to_ascii_uppercase()
}

fn bytes(hex: &str) -> Vec<u8> {
    let plain = plain_serial(hex);
    let even = match plain.len() % 2 {
        0 => plain,
        _ => format!("0{plain}"),
    };
    let pairs = even.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}
