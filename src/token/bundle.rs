//! The bundle that a site server sends to the site's gateways, in one signed document: trusted
//! roots and token keys, and the blocklist.
//!
//! A compact JWS (RFC 7515 §7.1) with its own `typ`, so that it cannot be confused with a token.
//! Never holds a private key; reads no files.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::blocklist::Blocking;
use super::client_key::ClientKey;
use super::json::Json;
use super::mint::{MintError, TokenSigner, segment};
use super::text::{base64url, to_base64url};

/// The largest bundle that is read, in bytes: enough for 200,000 blocks and the rest.
pub const BUNDLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The `typ` in the document's header: no token has it.
const TYP: &str = "sitegate-bundle+jws";
/// The largest number of keys that a bundle may name for the next one.
const KEYS_MAX: usize = 8;

/// The site's trust and blocklist, for its gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The site's code.
    pub site: String,
    /// The hierarchy that the site's tokens name.
    pub hierarchy: Uuid,
    /// Higher than that of every earlier bundle of the site.
    pub version: u64,
    /// The time of issue, in seconds since 1970.
    pub issued: i64,
    /// The time of expiry, in seconds since 1970.
    pub expires: i64,
    /// The `iss` of the site's own tokens.
    pub issuer: String,
    /// The addresses of the site's servers: `https://`, host and port.
    pub servers: Vec<String>,
    /// The origins of the site's systems, as clients address them; a token may be limited to one of
    /// them.
    pub origins: Vec<String>,
    /// The keys that sign bundles, as JWK: the current one, and the next if there is one.
    pub bundle_keys: Vec<Value>,
    /// The keys that sign the site's tokens, as a JWK set.
    pub token_keys: Value,
    /// The site's roots, PEM: the current one first.
    pub roots: String,
    /// The SHA-256 thumbprints of blocked role certificates, in hexadecimal digits.
    #[serde(default)]
    pub revoked: Vec<String>,
    /// Role certificates issued before this time must be replaced, in seconds since 1970: the
    /// issuing authority is being rolled over.
    #[serde(default)]
    pub certificates_from: i64,
    /// The blocklist.
    pub blocks: Vec<Block>,
    /// The revoked gateways, for a site server that has lost this record with its store.
    #[serde(default)]
    pub gone: Vec<String>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// One token of an issuer, by its id.
    Token {
        /// Its `iss`.
        issuer: String,
        /// Its id.
        id: String,
    },
    /// A device, for tokens of all issuers.
    Device(String),
    /// A user, for tokens of all issuers.
    User(String),
    /// Everything that an issuer issued before a given time.
    IssuedBefore {
        /// The `iss`.
        issuer: String,
        /// The time, in seconds since 1970.
        before: i64,
    },
}

impl Block {
    /// The block as an entry for a [`super::Blocklist`].
    pub fn as_blocking(&self) -> Blocking<'_> {
        match self {
            Block::Token { issuer, id } => Blocking::Token { iss: issuer, id },
            Block::IssuedBefore { issuer, before } => {
                Blocking::IssuedBefore { iss: issuer, before: crate::clock::second(*before) }
            }
            Block::Device(id) => Blocking::Device(id),
            Block::User(id) => Blocking::User(id),
        }
    }
}

/// Why a bundle is refused: a closed list, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// It is not a bundle.
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
}

impl BundleRefusal {
    /// Every refusal, in the order of the documentation.
    pub const ALL: [BundleRefusal; 4] = [
        BundleRefusal::Malformed,
        BundleRefusal::Signature,
        BundleRefusal::Site,
        BundleRefusal::Older,
    ];

    /// The code in logs, and the metric label.
    pub const fn code(self) -> &'static str {
        match self {
            BundleRefusal::Malformed => "bundle.malformed",
            BundleRefusal::Signature => "bundle.signature",
            BundleRefusal::Site => "bundle.site",
            BundleRefusal::Older => "bundle.older",
        }
    }
}

/// The keys that verify the next bundle.
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

/// The parameters that a bundle is checked against.
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

impl Bundle {
    /// Signs the document.
    ///
    /// # Errors
    /// [`MintError::Signing`].
    pub fn sign(&self, signer: &TokenSigner) -> Result<String, MintError> {
        let head = BundleHeader { typ: TYP, alg: signer.algorithm().name(), kid: signer.kid() };
        let text = format!("{}.{}", segment(&head)?, segment(self)?);
        let signature = signer.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", to_base64url(signature)))
    }

    /// Verifies a new bundle. Only the version decides which of two bundles is newer, not the time:
    /// a block must not wait until the clocks of two machines agree.
    ///
    /// # Errors
    /// The first fault. The version in force is accepted again: it may be the same bundle.
    pub fn open(text: &str, trust: &BundleTrust<'_>) -> Result<Self, BundleRefusal> {
        let bundle = Bundle::open_kept(text, trust)?;
        if bundle.version < trust.version { Err(BundleRefusal::Older) } else { Ok(bundle) }
    }

    /// Verifies the stored bundle that was in force before a restart, with any version.
    ///
    /// # Errors
    /// [`BundleRefusal::Malformed`], [`BundleRefusal::Signature`], [`BundleRefusal::Site`].
    pub fn open_kept(text: &str, trust: &BundleTrust<'_>) -> Result<Self, BundleRefusal> {
        let payload = verified(text, trust.keys)?;
        let bundle: Bundle =
            serde_json::from_slice(&payload).map_err(|_| BundleRefusal::Malformed)?;
        if bundle.site == trust.site { Ok(bundle) } else { Err(BundleRefusal::Site) }
    }

    /// Decodes a document without verification: nothing in it may be trusted.
    pub fn peek(text: &str) -> Option<Self> {
        let payload = text.split('.').nth(1).filter(|_| text.len() <= BUNDLE_BYTES_MAX)?;
        serde_json::from_slice(&base64url(payload)?).ok()
    }

    /// The key that a document claims to be signed with; not verified.
    pub fn signer(text: &str) -> Option<String> {
        let head = Json::parse(&base64url(text.split('.').next()?)?).ok()?;
        head.member("kid").and_then(Json::as_text).map(str::to_owned)
    }

    /// The keys that it names for the next bundle.
    pub fn keys(&self) -> BundleKeys {
        BundleKeys::of(&self.bundle_keys)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now.as_second()
    }

    /// Whether both have the same content, apart from version and times.
    pub fn says_the_same(&self, other: &Bundle) -> bool {
        let Bundle { site, hierarchy, issuer, servers, origins, bundle_keys, .. } = self;
        let Bundle { token_keys, roots, revoked, certificates_from, blocks, gone, .. } = self;
        *site == other.site
            && *hierarchy == other.hierarchy
            && *issuer == other.issuer
            && *servers == other.servers
            && *origins == other.origins
            && *bundle_keys == other.bundle_keys
            && *token_keys == other.token_keys
            && *roots == other.roots
            && *revoked == other.revoked
            && *certificates_from == other.certificates_from
            && *blocks == other.blocks
            && *gone == other.gone
    }
}

/// The payload of a document, if one of these keys signed it.
fn verified(text: &str, keys: &BundleKeys) -> Result<Vec<u8>, BundleRefusal> {
    let malformed = BundleRefusal::Malformed;
    if text.len() > BUNDLE_BYTES_MAX {
        return Err(malformed);
    }
    let (input, signature) = text.trim_end().rsplit_once('.').ok_or(malformed)?;
    let (head, payload) = input.split_once('.').ok_or(malformed)?;
    let head = base64url(head).and_then(|head| Json::parse(&head).ok()).ok_or(malformed)?;
    let of = |name: &str| head.member(name).and_then(Json::as_text);
    // Critical extensions are not supported (RFC 7515 §4.1.11).
    if of("typ") != Some(TYP) || head.member("crit").is_some() {
        return Err(malformed);
    }
    let signature = base64url(signature).ok_or(malformed)?;
    let (kid, alg) = (of("kid").ok_or(malformed)?, of("alg").ok_or(malformed)?);
    let signer = keys.0.iter().find(|key| key.thumbprint() == kid);
    let signer = signer.filter(|key| key.algorithm().name() == alg);
    if signer.is_some_and(|key| key.verifies(input.as_bytes(), &signature)) {
        base64url(payload).ok_or(malformed)
    } else {
        Err(BundleRefusal::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SignerKind;

    fn signer() -> TokenSigner {
        let key = TokenSigner::generate(SignerKind::P256).unwrap();
        TokenSigner::from_pkcs8(&key, None).unwrap()
    }

    fn bundle(signers: &[&TokenSigner]) -> Bundle {
        Bundle {
            site: "PS1".into(),
            hierarchy: Uuid::from_u128(1),
            version: 7,
            issued: 1_000,
            expires: 2_000,
            issuer: "https://mp01/sitegate/oauth2".into(),
            servers: vec!["https://site01:8443".into()],
            origins: vec!["https://mp01".into()],
            bundle_keys: signers.iter().map(|signer| signer.jwk()).collect(),
            token_keys: serde_json::json!({ "keys": [] }),
            roots: String::new(),
            revoked: Vec::new(),
            certificates_from: 0,
            blocks: vec![Block::Device("GUID:X".into())],
            gone: Vec::new(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_bundle_is_taken_from_those_that_the_last_one_named() {
        let (now, next) = (signer(), signer());
        let first = bundle(&[&now, &next]);
        let keys = first.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 7 };
        for signer in [&now, &next] {
            let text = first.sign(signer).unwrap();
            assert_eq!(Bundle::open(&text, &trust), Ok(first.clone()));
        }
        let pinned = first.keys().only(now.kid());
        let trust = BundleTrust { keys: &pinned, ..trust };
        let text = first.sign(&next).unwrap();
        assert_eq!(Bundle::open(&text, &trust), Err(BundleRefusal::Signature));
    }

    #[test]
    fn each_bundle_fault_has_its_own_refusal() {
        let (own, stranger) = (signer(), signer());
        let good = bundle(&[&own]);
        let keys = good.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 7 };
        let text = good.sign(&own).unwrap();
        let open = |text: &str| Bundle::open(text, &trust).map(drop);
        assert_eq!(open(&text), Ok(()));
        assert_eq!(open(&good.sign(&stranger).unwrap()), Err(BundleRefusal::Signature));
        let older = Bundle { version: 6, ..good.clone() }.sign(&own).unwrap();
        assert_eq!(open(&older), Err(BundleRefusal::Older));
        let foreign = Bundle { site: "PS2".into(), ..good.clone() }.sign(&own).unwrap();
        assert_eq!(open(&foreign), Err(BundleRefusal::Site));
        for junk in ["", "a.b", "a.b.c", &text.replace('.', ""), &format!("x{text}")] {
            assert_eq!(open(junk), Err(BundleRefusal::Malformed), "{junk}");
        }
        // A changed payload under the original signature.
        let (head, rest) = text.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let other = Bundle { blocks: Vec::new(), ..good }.sign(&stranger).unwrap();
        let other = other.split('.').nth(1).unwrap().to_owned();
        assert_ne!(payload, other);
        let forged = format!("{head}.{other}.{signature}");
        assert_eq!(open(&forged), Err(BundleRefusal::Signature));
    }

    #[test]
    fn versions_order_bundles_whenever_they_were_made() {
        let own = signer();
        let first = bundle(&[&own]);
        let keys = first.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 7 };
        for (issued, expires) in [(0, 1), (1_000, 2_000), (4_000_000_000, 4_000_000_001)] {
            let next = Bundle { version: 8, issued, expires, ..first.clone() };
            let text = next.sign(&own).unwrap();
            assert_eq!(Bundle::open(&text, &trust), Ok(next));
        }
    }

    #[test]
    fn a_token_of_the_same_key_is_no_bundle() {
        let own = signer();
        let keys = bundle(&[&own]).keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 0 };
        let request = crate::token::MintRequest {
            purpose: crate::purpose::Purpose::Registration,
            device: None,
            user: None,
            audience: "urn:sccm:service",
            issuer: "https://mp01/sitegate/oauth2",
            hierarchy: Uuid::from_u128(1),
            lifetime_s: None,
            bound_to: None,
            scope: None,
            origins: &[],
            id: Uuid::from_u128(2),
        };
        let token = own.mint(&request, at(1_000)).unwrap();
        assert_eq!(Bundle::open(&token, &trust), Err(BundleRefusal::Malformed));
    }

    #[test]
    fn what_a_bundle_says_does_not_depend_on_when_it_was_made() {
        let own = signer();
        let one = bundle(&[&own]);
        let later = Bundle { version: 9, issued: 1_900, expires: 9_000, ..one.clone() };
        assert!(one.says_the_same(&later));
        assert!(!one.says_the_same(&Bundle { blocks: Vec::new(), ..one.clone() }));
    }
}
