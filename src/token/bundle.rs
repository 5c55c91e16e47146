//! What a site server tells the site's gateways, in one signed document: whose certificates and
//! tokens to trust, and who is blocked.
//!
//! A compact JWS (RFC 7515 §7.1) with a type of its own, so that no token can be taken for one.
//! Never holds a private key; knows no file.

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

/// The largest bundle that is read, in bytes: 200,000 blocks and all else.
pub const BUNDLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The `typ` of the document's header: no token has it.
const TYP: &str = "sitegate-bundle+jws";
/// How many keys a bundle may name for the next one.
const KEYS_MAX: usize = 8;

/// What a site server tells the site's gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The site's code.
    pub site: String,
    /// The hierarchy that the site's tokens name.
    pub hierarchy: Uuid,
    /// Higher than that of every earlier bundle of the site.
    pub version: u64,
    /// When it was made, in seconds since 1970.
    pub issued: i64,
    /// When it is out of date, in seconds since 1970.
    pub expires: i64,
    /// The `iss` of the site's own tokens.
    pub issuer: String,
    /// Where the site's servers are: `https://` and a host, with its port.
    pub servers: Vec<String>,
    /// How clients address the site's systems: what a token may be limited to.
    pub origins: Vec<String>,
    /// The keys that sign bundles, as JWK: the present one, and the next where there is one.
    pub bundle_keys: Vec<Value>,
    /// The keys that sign the site's tokens, as a JWK set.
    pub token_keys: Value,
    /// The site's roots, PEM: the present one first.
    pub roots: String,
    /// The SHA-256 thumbprints of role certificates that are blocked, in hexadecimal digits.
    #[serde(default)]
    pub revoked: Vec<String>,
    /// Role certificates that were issued before are to be replaced, in seconds since 1970: the
    /// authority above them is rolled over.
    #[serde(default)]
    pub certificates_from: i64,
    /// Who and what is blocked.
    pub blocks: Vec<Block>,
    /// The gateways that were revoked: for a site server whose store has forgotten that.
    #[serde(default)]
    pub gone: Vec<String>,
}

/// One block, as every gateway has to know it.
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
    /// A device, whoever issued its tokens.
    Device(String),
    /// A user, whoever issued their tokens.
    User(String),
    /// Everything that an issuer issued before a moment.
    IssuedBefore {
        /// The `iss`.
        issuer: String,
        /// The moment, in seconds since 1970.
        before: i64,
    },
}

impl Block {
    /// The same, as a list is made of it.
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

/// Why a bundle is not taken: a closed list, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// It is no bundle.
    #[error("it is not a bundle")]
    Malformed,
    /// It is signed by nobody that the last bundle, or the join token, named.
    #[error("its signature is not of a key that this gateway trusts")]
    Signature,
    /// It is another site's.
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

/// The keys by which the next bundle is judged.
#[derive(Clone)]
pub struct BundleKeys(Vec<ClientKey>);

impl BundleKeys {
    /// From JWKs (RFC 7517). Those that cannot be used are left out.
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

    /// Only the key of that name.
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

/// By what a bundle is judged.
#[derive(Clone, Debug)]
pub struct BundleTrust<'a> {
    /// The site's code.
    pub site: &'a str,
    /// Who may sign it.
    pub keys: &'a BundleKeys,
    /// The highest version that was ever in force here.
    pub version: u64,
}

#[derive(Serialize)]
struct Head<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

impl Bundle {
    /// The document, signed.
    ///
    /// # Errors
    /// [`MintError::Signing`].
    pub fn sign(&self, signer: &TokenSigner) -> Result<String, MintError> {
        let head = Head { typ: TYP, alg: signer.algorithm().name(), kid: signer.kid() };
        let text = format!("{}.{}", segment(&head)?, segment(self)?);
        let signature = signer.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", to_base64url(signature)))
    }

    /// Read a document that is to come into force. Versions say which of two is the newer one, and
    /// no clock does: a block must not wait until two machines agree on the time.
    ///
    /// # Errors
    /// The first thing that speaks against it. A bundle of the version in force is none: it may be
    /// the very same.
    pub fn open(text: &str, trust: &BundleTrust<'_>) -> Result<Self, BundleRefusal> {
        let bundle = Bundle::open_kept(text, trust)?;
        match bundle.version < trust.version {
            true => Err(BundleRefusal::Older),
            false => Ok(bundle),
        }
    }

    /// Read the document that was in force before a restart, whatever the version.
    ///
    /// # Errors
    /// [`BundleRefusal::Malformed`], [`BundleRefusal::Signature`], [`BundleRefusal::Site`].
    pub fn open_kept(text: &str, trust: &BundleTrust<'_>) -> Result<Self, BundleRefusal> {
        let payload = verified(text, trust.keys)?;
        let bundle: Bundle =
            serde_json::from_slice(&payload).map_err(|_| BundleRefusal::Malformed)?;
        match bundle.site == trust.site {
            true => Ok(bundle),
            false => Err(BundleRefusal::Site),
        }
    }

    /// What a document says of itself, whoever has signed it: nothing of it may be believed.
    pub fn peek(text: &str) -> Option<Self> {
        let payload = text.split('.').nth(1).filter(|_| text.len() <= BUNDLE_BYTES_MAX)?;
        serde_json::from_slice(&base64url(payload)?).ok()
    }

    /// By which key a document says that it is signed, whether that is true or not.
    pub fn signer(text: &str) -> Option<String> {
        let head = Json::parse(&base64url(text.split('.').next()?)?).ok()?;
        head.member("kid").and_then(Json::as_text).map(str::to_owned)
    }

    /// The keys that it names for the next bundle.
    pub fn keys(&self) -> BundleKeys {
        BundleKeys::of(&self.bundle_keys)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now.as_second()
    }

    /// Whether it says the same as another, whenever and in which version either was made.
    pub fn says_the_same(&self, other: &Bundle) -> bool {
        let timeless = |b: &Bundle| Bundle { version: 0, issued: 0, expires: 0, ..b.clone() };
        timeless(self) == timeless(other)
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
    // Extensions that must be understood are not (RFC 7515 §4.1.11).
    if of("typ") != Some(TYP) || head.member("crit").is_some() {
        return Err(malformed);
    }
    let signature = base64url(signature).ok_or(malformed)?;
    let (kid, alg) = (of("kid").ok_or(malformed)?, of("alg").ok_or(malformed)?);
    let signer = keys.0.iter().find(|key| key.thumbprint() == kid);
    let signer = signer.filter(|key| key.algorithm().name() == alg);
    match signer.is_some_and(|key| key.verifies(input.as_bytes(), &signature)) {
        true => base64url(payload).ok_or(malformed),
        false => Err(BundleRefusal::Signature),
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
    fn what_is_wrong_with_a_bundle_is_told_apart() {
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
        // One bit of what it says.
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
