//! The bundle that a site server sends to the site's gateways: trusted roots and token keys, and
//! the blocklist. A signed document, followed by signed deltas that are chained to it.
//!
//! Compact JWS (RFC 7515 §7.1) with their own `typ`, so that they cannot be confused with tokens.
//! Never holds a private key; reads no files.

mod delta;
mod documents;
mod signed;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::blocklist::Blocking;
use super::mint::{MintError, TokenSigner};
pub use delta::{BundleDelta, BundleHead};
pub use documents::OpenedBundle;
pub use signed::{BundleKeys, BundleRefusal, BundleTrust};

/// The largest document that is read, in bytes: enough for 900,000 blocks and the rest.
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The `typ` in the document's header: no token has it.
const TYP: &str = "sitegate-bundle+jws";

/// The site's trust and blocklist, for its gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Everything but the blocks.
    #[serde(flatten)]
    pub settings: BundleSettings,
    /// Higher than that of every earlier bundle of the site.
    pub version: u64,
    /// The time of issue, in seconds since 1970.
    pub issued: i64,
    /// The time of expiry, in seconds since 1970.
    pub expires: i64,
    /// The blocklist.
    pub blocks: Vec<Block>,
    /// The link of the chain of deltas at this version: random for the first bundle of a chain, and
    /// the hash of the delta that led to it for a later one. `None` if no delta follows: a bundle
    /// of an earlier version of sitegate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
}

/// What a bundle says besides the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleSettings {
    /// The site's code.
    pub site: String,
    /// The hierarchy that the site's tokens name.
    pub hierarchy: Uuid,
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
    /// The revoked gateways, for a site server that has lost this record with its store.
    #[serde(default)]
    pub gone: Vec<String>,
}

impl BundleSettings {
    /// The keys that it names for the next document.
    pub fn keys(&self) -> BundleKeys {
        BundleKeys::of(&self.bundle_keys)
    }
}

/// The name of a device, a user or a token in blocks: a UUID in any spelling, with or without `GUID:`,
/// becomes lower case with hyphens. Other names (thumbprints) are unchanged.
pub fn block_name(id: &str) -> String {
    let guid = id.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("guid:"));
    let bare = if guid { id.get(5..).unwrap_or_default() } else { id };
    match Uuid::try_parse(bare) {
        Ok(uuid) => uuid.hyphenated().to_string(),
        Err(_) => id.to_owned(),
    }
}

/// Whether an id is a UUID as block names have it.
fn is_lower_uuid(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// The block in the one spelling of its ids: see [`block_name`].
    #[must_use]
    pub fn normal(self) -> Self {
        match self {
            Block::Token { issuer, id } if !is_lower_uuid(&id) => {
                Block::Token { issuer, id: block_name(&id) }
            }
            Block::Device(id) if !is_lower_uuid(&id) => Block::Device(block_name(&id)),
            Block::User(id) if !is_lower_uuid(&id) => Block::User(block_name(&id)),
            other => other,
        }
    }

    /// What is blocked: a block by time has the same key whatever its time.
    #[must_use]
    pub fn key(&self) -> Self {
        match self {
            Block::IssuedBefore { issuer, .. } => {
                Block::IssuedBefore { issuer: issuer.clone(), before: 0 }
            }
            other => other.clone(),
        }
    }

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

impl Bundle {
    /// Signs the document.
    ///
    /// # Errors
    /// [`MintError::Signing`].
    pub fn sign(&self, signer: &TokenSigner) -> Result<String, MintError> {
        signed::sign(TYP, self, signer)
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
        let payload = signed::verified(TYP, text, trust.keys)?;
        let bundle: Bundle =
            serde_json::from_slice(&payload).map_err(|_| BundleRefusal::Malformed)?;
        if bundle.settings.site == trust.site { Ok(bundle) } else { Err(BundleRefusal::Site) }
    }

    /// Decodes a document without verification: nothing in it may be trusted.
    pub fn peek(text: &str) -> Option<Self> {
        serde_json::from_slice(&signed::payload(text)?).ok()
    }

    /// The key that a document claims to be signed with; not verified.
    pub fn signer(text: &str) -> Option<String> {
        signed::signer(text)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now.as_second()
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
            settings: BundleSettings {
                site: "PS1".into(),
                hierarchy: Uuid::from_u128(1),
                issuer: "https://mp01/sitegate/oauth2".into(),
                servers: vec!["https://site01:8443".into()],
                origins: vec!["https://mp01".into()],
                bundle_keys: signers.iter().map(|signer| signer.jwk()).collect(),
                token_keys: serde_json::json!({ "keys": [] }),
                roots: String::new(),
                revoked: Vec::new(),
                certificates_from: 0,
                gone: Vec::new(),
            },
            version: 7,
            issued: 1_000,
            expires: 2_000,
            blocks: vec![Block::Device("x".into())],
            chain: Some("c".into()),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_bundle_is_taken_from_those_that_the_last_one_named() {
        let (now, next) = (signer(), signer());
        let first = bundle(&[&now, &next]);
        let keys = first.settings.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 7 };
        for signer in [&now, &next] {
            let text = first.sign(signer).unwrap();
            assert_eq!(Bundle::open(&text, &trust), Ok(first.clone()));
        }
        let pinned = first.settings.keys().only(now.kid());
        let trust = BundleTrust { keys: &pinned, ..trust };
        let text = first.sign(&next).unwrap();
        assert_eq!(Bundle::open(&text, &trust), Err(BundleRefusal::Signature));
    }

    #[test]
    fn each_bundle_fault_has_its_own_refusal() {
        let (own, stranger) = (signer(), signer());
        let good = bundle(&[&own]);
        let keys = good.settings.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 7 };
        let text = good.sign(&own).unwrap();
        let open = |text: &str| Bundle::open(text, &trust).map(drop);
        assert_eq!(open(&text), Ok(()));
        assert_eq!(open(&good.sign(&stranger).unwrap()), Err(BundleRefusal::Signature));
        let older = Bundle { version: 6, ..good.clone() }.sign(&own).unwrap();
        assert_eq!(open(&older), Err(BundleRefusal::Older));
        let mut foreign = good.clone();
        foreign.settings.site = "PS2".into();
        let foreign = foreign.sign(&own).unwrap();
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
        let keys = first.settings.keys();
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
        let keys = bundle(&[&own]).settings.keys();
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

    /// A delta of the version after a state.
    fn delta(head: &BundleHead) -> BundleDelta {
        BundleDelta {
            site: head.settings.site.clone(),
            version: head.version + 1,
            after: head.version,
            chain: head.chain.clone(),
            issued: head.issued,
            expires: head.expires,
            settings: None,
            removed: Vec::new(),
            added: Vec::new(),
        }
    }

    /// A bundle and its three deltas: a block, another in place of the first, and settings.
    fn chain(own: &TokenSigner) -> (Vec<String>, BundleHead) {
        let first = bundle(&[own]);
        let mut texts = vec![first.sign(own).unwrap()];
        let mut head = BundleHead::of(first).0;
        for step in 0..3 {
            let mut next = delta(&head);
            match step {
                0 => next.added = vec![Block::Device("y".into())],
                1 => {
                    next.removed = vec![Block::Device("GUID:Y".into()), Block::Device("x".into())];
                    next.added = vec![Block::User("u".into())];
                }
                _ => {
                    let settings = BundleSettings { roots: "new".into(), ..head.settings.clone() };
                    next.settings = Some(Box::new(settings));
                }
            }
            let text = next.sign(own).unwrap();
            head = head.next(&text).unwrap().0;
            texts.push(text);
        }
        (texts, head)
    }

    #[test]
    fn deltas_lead_from_a_bundle_to_the_state_of_the_site() {
        let own = signer();
        let (texts, head) = chain(&own);
        let keys = head.settings.keys();
        let trust = BundleTrust { site: "PS1", keys: &keys, version: 10 };
        let lines = texts.join("\n");
        let opened = OpenedBundle::open(&lines, &trust).unwrap();
        assert_eq!(OpenedBundle::peek(&lines), Some(opened.clone()));
        assert_eq!((opened.head.version, opened.head.settings.roots.as_str()), (10, "new"));
        // 'Y' and 'y' are names, not spellings of one GUID.
        assert_eq!(opened.blocks, [Block::Device("y".into()), Block::User("u".into())]);
        // A bundle made of them is followed by the same deltas.
        let next = delta(&head).sign(&own).unwrap();
        let whole = opened.whole().sign(&own).unwrap();
        let further = OpenedBundle::open(&format!("{whole}\n{next}"), &trust).unwrap();
        assert_eq!(further.head.version, 11);
    }

    #[test]
    fn a_block_is_lifted_in_any_spelling_and_at_any_time() {
        let own = signer();
        let guid = "0000000A-0000-0000-0000-000000000000";
        let issuer = || "i".to_owned();
        let first = Bundle {
            blocks: vec![
                Block::Device(format!("GUID:{guid}")),
                Block::Token { issuer: issuer(), id: guid.into() },
                Block::IssuedBefore { issuer: issuer(), before: 9 },
            ],
            ..bundle(&[&own])
        };
        let text = first.sign(&own).unwrap();
        let head = BundleHead::of(first).0;
        let mut next = delta(&head);
        next.removed = vec![
            Block::Device(guid.to_lowercase()),
            Block::Token { issuer: issuer(), id: guid.to_lowercase() },
            Block::IssuedBefore { issuer: issuer(), before: 0 },
        ];
        let lines = format!("{text}\n{}", next.sign(&own).unwrap());
        assert_eq!(OpenedBundle::peek(&lines).unwrap().blocks, []);
    }

    #[test]
    fn each_delta_fault_has_its_own_refusal() {
        let (own, stranger) = (signer(), signer());
        let head = BundleHead::of(bundle(&[&own])).0;
        let good = delta(&head);
        let refused = |change: &dyn Fn(&mut BundleDelta), by: &TokenSigner| {
            let mut delta = good.clone();
            change(&mut delta);
            head.next(&delta.sign(by).unwrap()).map(|(head, _)| head.version)
        };
        let settings = |change: &dyn Fn(&mut BundleSettings)| {
            let mut settings = head.settings.clone();
            change(&mut settings);
            Some(Box::new(settings))
        };
        assert_eq!(refused(&|_| {}, &own), Ok(8));
        assert_eq!(refused(&|d| d.version = 12, &own), Ok(12));
        use BundleRefusal::{Fork, Gap, Malformed, Older, Signature, Site};
        assert_eq!(refused(&|_| {}, &stranger), Err(Signature));
        assert_eq!(refused(&|d| d.site = "PS2".into(), &own), Err(Site));
        assert_eq!(
            refused(&|d| d.settings = settings(&|s| s.site = "PS2".into()), &own),
            Err(Site)
        );
        assert_eq!(
            refused(&|d| d.settings = settings(&|s| s.bundle_keys.clear()), &own),
            Err(Signature)
        );
        assert_eq!(refused(&|d| d.version = 7, &own), Err(Older));
        assert_eq!(refused(&|d| d.after = 6, &own), Err(Gap));
        assert_eq!(refused(&|d| d.chain = "d".into(), &own), Err(Fork));
        let whole = bundle(&[&own]).sign(&own).unwrap();
        assert_eq!(head.next(&whole).map(drop), Err(Malformed));
        // A bundle of a site server that makes no deltas is followed by none.
        let old = BundleHead { chain: String::new(), ..head.clone() };
        let text = delta(&old).sign(&own).unwrap();
        assert_eq!(old.next(&text).map(drop), Err(Fork));
    }

    #[test]
    fn a_changed_chain_of_documents_is_refused_or_cut() {
        let own = signer();
        let (texts, head) = chain(&own);
        let keys = head.settings.keys();
        let open = |texts: &[&str], version| {
            let trust = BundleTrust { site: "PS1", keys: &keys, version };
            OpenedBundle::open(&texts.join("\n"), &trust).map(|opened| opened.head.version)
        };
        let [base, first, second, third] = texts.each_ref_str();
        use BundleRefusal::{Gap, Malformed, Older, Signature};
        assert_eq!(open(&[base, first, second, third], 10), Ok(10));
        // Cut, and known to be cut: a later version was in force.
        assert_eq!(open(&[base, first], 8), Ok(8));
        assert_eq!(open(&[base, first], 10), Err(Older));
        assert_eq!(open(&[base, second, third], 7), Err(Gap));
        assert_eq!(open(&[base, second, first], 7), Err(Gap));
        assert_eq!(open(&[base, first, first], 7), Err(Older));
        assert_eq!(open(&[first], 7), Err(Malformed));
        assert_eq!(open(&[base, "junk"], 7), Err(Malformed));
        // A delta in the middle that the site has not signed breaks the chain of the next.
        let stranger = signer();
        let at_base = BundleHead::peek(base).unwrap();
        let mut forged = delta(&at_base);
        forged.removed = vec![Block::Device("x".into())];
        let forged = forged.sign(&stranger).unwrap();
        assert_eq!(open(&[base, &forged, second], 7), Err(BundleRefusal::Fork));
        assert_eq!(open(&[base, &forged], 7), Err(Signature));
    }

    trait Texts {
        fn each_ref_str(&self) -> [&str; 4];
    }

    impl Texts for Vec<String> {
        fn each_ref_str(&self) -> [&str; 4] {
            [&self[0], &self[1], &self[2], &self[3]]
        }
    }
}
