//! How the site server's documents are signed and verified.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::BUNDLE_BYTES_MAX;
use crate::token::client_key::ClientKey;
use crate::token::json::Json;
use crate::token::mint::{MintError, TokenSigner, segment};
use crate::token::text::{base64url, to_base64url};

/// The largest number of keys that a document may name for the next one.
const KEYS_MAX: usize = 8;

/// Why a document is refused: a closed list, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// It is neither a bundle nor a delta.
    #[error("it is not a bundle")]
    Malformed,
    /// It is not signed by a key that the last bundle or the join token names.
    #[error("its signature is not of a key that this gateway trusts")]
    Signature,
    /// It is for another site.
    #[error("it is another site's")]
    Site,
    /// It is older than the one in force.
    #[error("it is older than the one in force")]
    Older,
    /// A delta that follows a later version than the one in force.
    #[error("it follows a version that this gateway does not have")]
    Gap,
    /// A delta that follows another document of the version in force.
    #[error("it follows another bundle with the same version as the one in force")]
    Fork,
}

impl BundleRefusal {
    /// Every refusal, in the order of the documentation.
    pub const ALL: [BundleRefusal; 6] = [
        BundleRefusal::Malformed,
        BundleRefusal::Signature,
        BundleRefusal::Site,
        BundleRefusal::Older,
        BundleRefusal::Gap,
        BundleRefusal::Fork,
    ];

    /// The code in logs, and the metric label.
    pub const fn code(self) -> &'static str {
        match self {
            BundleRefusal::Malformed => "bundle.malformed",
            BundleRefusal::Signature => "bundle.signature",
            BundleRefusal::Site => "bundle.site",
            BundleRefusal::Older => "bundle.older",
            BundleRefusal::Gap => "bundle.gap",
            BundleRefusal::Fork => "bundle.fork",
        }
    }
}

/// The keys that verify the next document.
#[derive(Clone)]
pub struct BundleKeys(Vec<ClientKey>);

impl BundleKeys {
    /// From JWKs (RFC 7517). Unusable keys are skipped.
    pub fn of(jwks: &[Value]) -> Self {
        let keys = jwks.iter().take(KEYS_MAX);
        BundleKeys(
            keys.filter_map(|jwk| ClientKey::from_jwk(jwk.to_string().as_bytes()).ok()).collect(),
        )
    }

    /// The name of each key: its JWK thumbprint (RFC 7638).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ClientKey::thumbprint)
    }

    /// Keeps only the key with that name.
    #[must_use]
    pub fn only(mut self, name: &str) -> Self {
        self.0.retain(|key| key.thumbprint() == name);
        self
    }
}

impl fmt::Debug for BundleKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The parameters that a document is checked against.
#[derive(Clone, Debug)]
pub struct BundleTrust<'a> {
    /// The site's code.
    pub site: &'a str,
    /// The keys that may sign it.
    pub keys: &'a BundleKeys,
    /// The highest version that was ever in force on this gateway.
    pub version: u64,
}

#[derive(Serialize)]
struct BundleHeader<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

/// Signs a document of this type.
pub(super) fn sign(
    typ: &str,
    document: &impl Serialize,
    signer: &TokenSigner,
) -> Result<String, MintError> {
    let head = BundleHeader { typ, alg: signer.algorithm().name(), kid: signer.kid() };
    let mut text = format!("{}.{}", segment(&head)?, segment(document)?);
    let signature = signer.sign(text.as_bytes())?;
    text.push('.');
    text.push_str(&to_base64url(signature));
    Ok(text)
}

/// The payload of a document of this type, if one of these keys signed it.
pub(super) fn verified(typ: &str, text: &str, keys: &BundleKeys) -> Result<Vec<u8>, BundleRefusal> {
    verify(typ, text, keys)?;
    payload(text).ok_or(BundleRefusal::Malformed)
}

/// Checks that one of these keys signed a document of this type.
pub(super) fn verify(typ: &str, text: &str, keys: &BundleKeys) -> Result<(), BundleRefusal> {
    let malformed = BundleRefusal::Malformed;
    if text.len() > BUNDLE_BYTES_MAX {
        return Err(malformed);
    }
    let (input, signature) = text.trim_end().rsplit_once('.').ok_or(malformed)?;
    let (head, _) = input.split_once('.').ok_or(malformed)?;
    let head = header(head).ok_or(malformed)?;
    let of = |name: &str| head.member(name).and_then(Json::as_text);
    // Critical extensions are not supported (RFC 7515 §4.1.11).
    if of("typ") != Some(typ) || head.member("crit").is_some() {
        return Err(malformed);
    }
    let signature = base64url(signature).ok_or(malformed)?;
    let (kid, alg) = (of("kid").ok_or(malformed)?, of("alg").ok_or(malformed)?);
    let signer = keys.0.iter().find(|key| key.thumbprint() == kid);
    let signer = signer.filter(|key| key.algorithm().name() == alg);
    let is_good = signer.is_some_and(|key| key.verifies(input.as_bytes(), &signature));
    if is_good { Ok(()) } else { Err(BundleRefusal::Signature) }
}

/// The payload of a document, without verification.
pub(super) fn payload(text: &str) -> Option<Vec<u8>> {
    base64url(text.split('.').nth(1).filter(|_| text.len() <= BUNDLE_BYTES_MAX)?)
}

/// The key that a document claims to be signed with, without verification.
pub(super) fn signer(text: &str) -> Option<String> {
    header(text.split('.').next()?)?.member("kid").and_then(Json::as_text).map(str::to_owned)
}

/// The type that a document claims to have.
pub(super) fn typ(text: &str) -> Option<String> {
    header(text.split('.').next()?)?.member("typ").and_then(Json::as_text).map(str::to_owned)
}

fn header(segment: &str) -> Option<Json> {
    base64url(segment).and_then(|head| Json::parse(&head).ok())
}

/// The link of the chain that a document is: the SHA-256 of what is signed (RFC 7515 §5.1), in
/// base64url.
pub(super) fn link(text: &str) -> String {
    let input = text.trim_end().rsplit_once('.').map_or(text, |(input, _)| input);
    to_base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input.as_bytes()))
}
