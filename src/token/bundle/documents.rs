//! A bundle with the deltas that follow it, a document in each line: what a gateway has on disk, and
//! what is carried to gateways by hand.

use std::collections::HashMap;

use super::signed::verify;
use super::{Block, Bundle, BundleDelta, BundleHead, BundleKeys, BundleRefusal, BundleTrust, TYP};

/// The state that a bundle and its deltas lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedBundle {
    /// The state without the blocks.
    pub head: BundleHead,
    /// The blocks, sorted.
    pub blocks: Vec<Block>,
}

impl OpenedBundle {
    /// Verifies the bundle, the chain of the deltas, and the signature of the last one: it signs the
    /// hash of the one before, and so all of them. Deltas of versions that the bundle has already
    /// are skipped.
    ///
    /// # Errors
    /// The first fault; [`BundleRefusal::Older`] if they do not lead to the version of `trust`.
    pub fn open(lines: &str, trust: &BundleTrust<'_>) -> Result<Self, BundleRefusal> {
        let (text, deltas) = lines.split_once('\n').unwrap_or((lines, ""));
        let mut fold = Fold::of(Bundle::open_kept(text, trust)?);
        let head = follow(fold.head.clone(), deltas, |delta| fold.apply(delta))?;
        let opened = OpenedBundle { head, ..fold.done() };
        if opened.head.version < trust.version { Err(BundleRefusal::Older) } else { Ok(opened) }
    }

    /// The same of documents that need no verification, or get none: nothing in them may be trusted
    /// then.
    pub fn peek(lines: &str) -> Option<Self> {
        let mut lines = lines.lines();
        let mut fold = Fold::of(Bundle::peek(lines.next()?)?);
        for line in lines {
            let delta = BundleDelta::peek(line)?;
            if delta.version > fold.head.version {
                let (head, delta) = fold.head.after(delta, line);
                fold.head = head;
                fold.apply(delta);
            }
        }
        Some(fold.done())
    }

    /// One bundle that says the same, and that further deltas follow.
    pub fn whole(self) -> Bundle {
        let BundleHead { settings, version, issued, expires, chain } = self.head;
        Bundle { settings, version, issued, expires, blocks: self.blocks, chain: Some(chain) }
    }
}

struct Fold {
    head: BundleHead,
    /// The blocks of the bundle.
    blocks: Vec<Block>,
    /// What deltas have changed: the block of each key, or `None` if it is lifted.
    changed: HashMap<Block, Option<Block>>,
}

/// Verifies the deltas that follow a state, one in each line: their chain, and the signature of the
/// last one. Passes each to `with`, and returns the state after them. Deltas of versions that the
/// first state has already are skipped.
fn follow(
    mut head: BundleHead,
    lines: &str,
    mut with: impl FnMut(BundleDelta),
) -> Result<BundleHead, BundleRefusal> {
    let mut lines = lines.lines().peekable();
    let first = head.version;
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        match if is_last { head.next(line) } else { head.next_unsigned(line) } {
            Ok((next, delta)) => {
                head = next;
                with(delta);
            }
            // The last one that counts must be one whose signature is verified.
            Err(BundleRefusal::Older) if head.version == first => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(head)
}

impl BundleHead {
    /// The state that a bundle and its deltas lead to, a document in each line, without the blocks.
    /// `None` if they are not what these keys have signed.
    pub fn open(lines: &str, keys: &BundleKeys) -> Option<Self> {
        let (text, deltas) = lines.split_once('\n').unwrap_or((lines, ""));
        verify(TYP, text, keys).ok()?;
        follow(BundleHead::peek(text)?, deltas, drop).ok()
    }
}

impl Fold {
    fn of(bundle: Bundle) -> Self {
        let (head, blocks) = BundleHead::of(bundle);
        let blocks = blocks.into_iter().map(Block::normal).collect();
        Fold { head, blocks, changed: HashMap::new() }
    }

    fn apply(&mut self, delta: BundleDelta) {
        for block in delta.removed {
            self.changed.insert(block.normal().key(), None);
        }
        for block in delta.added {
            let block = block.normal();
            self.changed.insert(block.key(), Some(block));
        }
    }

    fn done(self) -> OpenedBundle {
        let Fold { head, mut blocks, changed, .. } = self;
        if !changed.is_empty() {
            blocks.retain(|block| !changed.contains_key(&block.key()));
            blocks.extend(changed.into_values().flatten());
        }
        blocks.sort_unstable();
        blocks.dedup();
        OpenedBundle { head, blocks }
    }
}
