//! The documents that gateways get: the whole bundle, and the deltas that lead from each version to
//! the one in force.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::gzip;
use crate::site::store::{StoredBundle, StoredDelta};
use crate::site::tokens::bundle_keys;
use crate::token::{Bundle, BundleDelta, BundleHead, OpenedBundle};

/// How many bytes of deltas a whole bundle has at least before a new one is made; a long one has a
/// quarter of its own length.
const DELTA_BYTES_MIN: usize = 256 * 1024;
/// How many deltas a whole bundle has at most: a gateway verifies all of them at its start.
const DELTAS_MAX: usize = 2_000;

/// The documents in force.
#[derive(Clone)]
pub struct PublishedDocuments {
    base: Arc<WholeBundle>,
    /// In order: those that follow the whole bundle, and some of before, for gateways that lag
    /// behind.
    deltas: Vec<Arc<PublishedDelta>>,
    /// What they lead to.
    pub head: BundleHead,
    /// The state of the blocks that they include.
    pub blocks: i64,
    /// One bundle with all that they say, for gateways that read no deltas.
    whole: Arc<OnceCell<Option<Bytes>>>,
}

/// A whole bundle.
struct WholeBundle {
    version: u64,
    text: Bytes,
    gzip: OnceLock<Bytes>,
    /// The key that signed it.
    signer: Option<String>,
}

/// One signed bundle, made of a bundle and its deltas.
pub struct FoldedBundle {
    /// The version.
    pub version: u64,
    /// The state of the blocks that it includes.
    pub blocks: i64,
    /// The document; `None` if it could not be made.
    pub text: Option<String>,
}

struct PublishedDelta {
    version: u64,
    /// The version that it follows, and the link of the chain there.
    after: u64,
    chain: String,
    text: Bytes,
}

impl PublishedDelta {
    fn of(text: String) -> Option<Self> {
        let BundleDelta { version, after, chain, .. } = BundleDelta::peek(&text)?;
        Some(PublishedDelta { version, after, chain, text: text.into() })
    }
}

impl PublishedDocuments {
    /// The documents of the store; `None` if they are not what a site server writes.
    pub fn of(stored: StoredBundle) -> Option<Self> {
        let StoredBundle { version, text, deltas, blocks } = stored;
        let mut head = BundleHead::peek(&text)?;
        for delta in deltas.iter().filter(|delta| delta.version > version) {
            head = head.after_peeked(&delta.text)?;
        }
        let deltas = deltas.into_iter().map(|delta| PublishedDelta::of(delta.text).map(Arc::new));
        let mut deltas = deltas.collect::<Option<Vec<_>>>()?;
        // Only those that lead to the version in force: a whole bundle may have begun a new chain.
        let mut next = head.version;
        let leading = deltas.iter().rev().take_while(|delta| {
            let leads = delta.version == next;
            next = delta.after;
            leads
        });
        let broken = deltas.len() - leading.count();
        deltas.drain(..broken);
        let base = Arc::new(WholeBundle::of(version, text));
        Some(PublishedDocuments { base, deltas, head, blocks, whole: Arc::default() })
    }

    /// The documents of a new whole bundle.
    pub fn of_bundle(bundle: Bundle, text: String, blocks: i64) -> Self {
        let base = Arc::new(WholeBundle::of(bundle.version, text));
        let (head, _) = BundleHead::of(bundle);
        PublishedDocuments { base, deltas: Vec::new(), head, blocks, whole: Arc::default() }
    }

    /// The documents with a further delta; `None` if it does not follow.
    pub fn with_delta(&self, delta: StoredDelta) -> Option<Self> {
        let head = self.head.after_peeked(&delta.text)?;
        let mut deltas = self.deltas.clone();
        deltas.push(Arc::new(PublishedDelta::of(delta.text)?));
        let (base, blocks) = (self.base.clone(), delta.blocks);
        Some(PublishedDocuments { base, deltas, head, blocks, whole: Arc::default() })
    }

    /// The same documents with this bundle, which says what all of them say up to its version.
    pub fn with_bundle(&self, version: u64, text: String) -> Self {
        let base = Arc::new(WholeBundle::of(version, text));
        let old = self.deltas.len().saturating_sub(2 * DELTAS_MAX);
        let deltas = self.deltas.get(old..).unwrap_or_default().to_vec();
        PublishedDocuments { base, deltas, whole: Arc::default(), ..self.clone() }
    }

    /// The same documents, which include a later state of the blocks as well.
    pub fn with_blocks(&self, blocks: i64) -> Self {
        PublishedDocuments { blocks, ..self.clone() }
    }

    /// The deltas after a version; none if it is in force. `None` if they do not lead there from a
    /// gateway's version.
    pub fn since(&self, version: u64, chain: &str) -> Option<Vec<Bytes>> {
        if (version, chain) == (self.head.version, &self.head.chain) {
            return Some(Vec::new());
        }
        let first = self.deltas.iter().position(|delta| delta.after == version)?;
        let deltas = self.deltas.get(first..)?;
        let is_chained = deltas.first().is_some_and(|delta| delta.chain == chain);
        is_chained.then(|| deltas.iter().map(|delta| delta.text.clone()).collect())
    }

    /// Whether a version has another link of the chain here: the site of that gateway's bundle was
    /// another copy of this one.
    pub fn is_fork(&self, version: u64, chain: &str) -> bool {
        let here = if version == self.head.version {
            Some(&self.head.chain)
        } else {
            let next = self.deltas.iter().find(|delta| delta.after == version);
            next.map(|delta| &delta.chain)
        };
        here.is_some_and(|here| here != chain)
    }

    /// The whole bundle, which the deltas after it follow: its version and its text.
    pub fn base(&self) -> (u64, Bytes) {
        (self.base.version, self.base.text.clone())
    }

    /// The whole bundle, compressed (RFC 1952).
    pub fn base_gzip(&self) -> Bytes {
        self.base.gzip.get_or_init(|| gzip::compress(&self.base.text).into()).clone()
    }

    /// The key that the whole bundle claims to be signed with.
    pub fn signer(&self) -> Option<&str> {
        self.base.signer.as_deref()
    }

    /// The size of the whole bundle with the deltas that follow it, in bytes.
    pub fn bytes(&self) -> usize {
        self.following().fold(self.base.text.len(), |sum, delta| sum + delta.text.len())
    }

    /// Whether so many deltas follow the whole bundle that a new one is due.
    pub fn needs_bundle(&self) -> bool {
        let base = self.base.text.len();
        self.following().count() > DELTAS_MAX || self.bytes() - base > DELTA_BYTES_MIN.max(base / 4)
    }

    /// The whole bundle and the deltas that follow it.
    pub fn texts(&self) -> Vec<Bytes> {
        let following = self.following().map(|delta| delta.text.clone());
        std::iter::once(self.base.text.clone()).chain(following).collect()
    }

    /// The same, a document in each line.
    pub fn lines(&self) -> String {
        String::from_utf8(self.texts().join(b"\n".as_slice())).unwrap_or_default()
    }

    /// One signed bundle with all that the documents say; made once. `None` if it cannot be made.
    pub async fn whole(&self, state: &Path, now: Timestamp) -> Option<Bytes> {
        if self.base.version == self.head.version {
            return Some(self.base.text.clone());
        }
        let make = async || {
            let folded = self.clone().fold(state.to_owned(), now).await.ok()?;
            folded.text.map(Bytes::from)
        };
        self.whole.get_or_init(make).await.clone()
    }

    /// Makes one signed bundle of all documents. It takes a second for a large site, so it runs on a
    /// thread of its own.
    pub fn fold(self, state: PathBuf, now: Timestamp) -> JoinHandle<FoldedBundle> {
        tokio::task::spawn_blocking(move || {
            let whole = OpenedBundle::peek(&self.lines()).map(OpenedBundle::whole);
            let signers = bundle_keys(&state, now).ok();
            let signed = whole.zip(signers).and_then(|(w, by)| w.sign(by.current()).ok());
            FoldedBundle { version: self.head.version, blocks: self.blocks, text: signed }
        })
    }

    fn following(&self) -> impl Iterator<Item = &Arc<PublishedDelta>> {
        self.deltas.iter().filter(|delta| delta.version > self.base.version)
    }
}

impl WholeBundle {
    fn of(version: u64, text: String) -> Self {
        let signer = Bundle::signer(&text);
        WholeBundle { version, text: text.into(), gzip: OnceLock::new(), signer }
    }
}
