//! Deltas: what has changed since the bundle or delta before.
//!
//! A delta names its predecessor by version and by hash, so that a gateway that applies deltas in
//! turn has the state that the site has, or notices that it has not.

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::signed::{link, payload, sign, typ, verified};
use super::{Block, Bundle, BundleRefusal, BundleSettings};
use crate::token::mint::{MintError, TokenSigner};

/// The `typ` in a delta's header.
const TYP: &str = "sitegate-bundle-delta+jws";

/// The changes from one version of the bundle to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDelta {
    /// The site's code.
    pub site: String,
    /// The version that it leads to.
    pub version: u64,
    /// The version that it follows.
    pub after: u64,
    /// The link of the chain at the version that it follows.
    pub chain: String,
    /// The time of issue, in seconds since 1970.
    pub issued: i64,
    /// The time of expiry, in seconds since 1970.
    pub expires: i64,
    /// The new settings, if they have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Box<BundleSettings>>,
    /// Blocks that are lifted; one by time is lifted whatever its time. Applied before `added`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Block>,
    /// Blocks that apply from now on, also if they did before. One by time replaces an earlier one
    /// of its issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Block>,
}

impl BundleDelta {
    /// Signs the delta.
    ///
    /// # Errors
    /// [`MintError::Signing`].
    pub fn sign(&self, signer: &TokenSigner) -> Result<String, MintError> {
        sign(TYP, self, signer)
    }

    /// Whether a document claims to be a delta.
    pub fn is_one(text: &str) -> bool {
        typ(text).as_deref() == Some(TYP)
    }

    /// Decodes a delta without verification: nothing in it may be trusted.
    pub fn peek(text: &str) -> Option<Self> {
        serde_json::from_slice(&payload(text).filter(|_| Self::is_one(text))?).ok()
    }
}

/// The state that a bundle and its deltas lead to, without the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleHead {
    /// The settings.
    pub settings: BundleSettings,
    /// The version.
    pub version: u64,
    /// The time of issue of the last document, in seconds since 1970.
    pub issued: i64,
    /// The time of expiry, in seconds since 1970.
    pub expires: i64,
    /// The link of the chain: the hash of the last document.
    pub chain: String,
}

impl BundleHead {
    /// The state of a bundle, without its blocks and without verification: nothing in it may be
    /// trusted.
    pub fn peek(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct WithoutBlocks {
            #[serde(flatten)]
            settings: BundleSettings,
            version: u64,
            issued: i64,
            expires: i64,
            #[serde(rename = "blocks")]
            _blocks: IgnoredAny,
            #[serde(default)]
            chain: Option<String>,
        }
        let read: WithoutBlocks = serde_json::from_slice(&payload(text)?).ok()?;
        let WithoutBlocks { settings, version, issued, expires, chain, .. } = read;
        Some(BundleHead { settings, version, issued, expires, chain: chain.unwrap_or_default() })
    }

    /// The state after a delta, without verification; `None` if it is not the next one.
    pub fn after_peeked(&self, text: &str) -> Option<Self> {
        let delta = BundleDelta::peek(text)?;
        let is_next = delta.after == self.version && delta.chain == self.chain;
        (is_next && delta.version > self.version).then(|| self.after(delta, text).0)
    }

    /// The state of a bundle, and its blocks.
    pub fn of(bundle: Bundle) -> (Self, Vec<Block>) {
        let Bundle { settings, version, issued, expires, blocks, chain } = bundle;
        // No delta follows a bundle of a site server that makes none.
        let chain = chain.unwrap_or_default();
        (BundleHead { settings, version, issued, expires, chain }, blocks)
    }

    /// Verifies a delta of this state, and returns the state after it with the delta.
    ///
    /// # Errors
    /// The first fault; [`BundleRefusal::Gap`] and [`BundleRefusal::Fork`] if it is not the next
    /// one of the chain.
    pub fn next(&self, text: &str) -> Result<(Self, BundleDelta), BundleRefusal> {
        let payload = verified(TYP, text, &self.settings.keys())?;
        let delta = serde_json::from_slice(&payload).map_err(|_| BundleRefusal::Malformed)?;
        self.follow(delta, text)
    }

    /// The same without a look at the signature: that of a later delta of the chain is verified.
    pub(super) fn next_unsigned(&self, text: &str) -> Result<(Self, BundleDelta), BundleRefusal> {
        self.follow(BundleDelta::peek(text).ok_or(BundleRefusal::Malformed)?, text)
    }

    fn follow(&self, delta: BundleDelta, text: &str) -> Result<(Self, BundleDelta), BundleRefusal> {
        let settings = delta.settings.as_deref();
        if delta.site != self.settings.site || settings.is_some_and(|s| s.site != delta.site) {
            return Err(BundleRefusal::Site);
        }
        if delta.version <= self.version {
            return Err(BundleRefusal::Older);
        }
        if delta.after != self.version {
            return Err(BundleRefusal::Gap);
        }
        if delta.chain != self.chain || self.chain.is_empty() {
            return Err(BundleRefusal::Fork);
        }
        // Only a whole bundle changes the keys, so that one set of keys verifies a bundle and all
        // deltas that follow it.
        if settings.is_some_and(|settings| settings.bundle_keys != self.settings.bundle_keys) {
            return Err(BundleRefusal::Signature);
        }
        Ok(self.after(delta, text))
    }

    /// The state after a delta that was checked.
    pub(super) fn after(&self, mut delta: BundleDelta, text: &str) -> (Self, BundleDelta) {
        let settings = delta.settings.take();
        let settings = settings.map_or_else(|| self.settings.clone(), |settings| *settings);
        let (version, issued, expires) = (delta.version, delta.issued, delta.expires);
        (BundleHead { settings, version, issued, expires, chain: link(text) }, delta)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now.as_second()
    }
}
