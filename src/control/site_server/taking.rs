//! How a gateway takes documents: verified, in force in memory at once, then on disk.

use std::io::ErrorKind;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::SiteServerTask;
use super::bundle_files::StoredTrust;
use super::certificates::keep_roots;
use super::link::LinkError;
use super::status::BlockNews;
use super::unkept::Unkept;
use crate::secret::read_bounded;
use crate::token::{
    BUNDLE_BYTES_MAX, BundleDelta, BundleHead, BundleKeys, BundleRefusal, BundleTrust, OpenedBundle,
};

impl SiteServerTask {
    /// Accepts the documents of a poll. If deltas do not follow the bundle in force, the next poll
    /// asks for a whole one.
    pub(super) fn take_or_heal(&mut self, text: &str) -> Result<(), LinkError> {
        let is_delta = BundleDelta::is_one(text);
        match self.take(text) {
            Ok(()) => {
                self.needs_whole =
                    is_delta && (self.kept.has_many_deltas() || self.unkept.has_many());
                Ok(())
            }
            Err(refusal) if is_delta && !self.needs_whole => {
                tracing::warn!(target: "sitegate::site_server", code = refusal.code(),
                    "the site server's changes do not follow the bundle in force ({refusal}); \
                     asking for the whole bundle");
                self.needs_whole = true;
                Ok(())
            }
            Err(refusal) => Err(LinkError::Refused {
                code: refusal.code().to_owned(),
                words: refusal.to_string(),
            }),
        }
    }

    /// Accepts received documents, if they are valid: deltas, or a bundle with deltas.
    fn take(&mut self, text: &str) -> Result<(), BundleRefusal> {
        let taken = match self.bundle.clone() {
            Some(mut head) if BundleDelta::is_one(text) => text.lines().try_for_each(|line| {
                let (next, delta) = head.next(line)?;
                head = Arc::new(next);
                self.enforce_delta(&head, &delta, line);
                Ok(())
            }),
            _ => {
                let trust = self.trust.clone().unwrap_or_default();
                let keys = BundleKeys::of(&trust.keys);
                let (site, version) = (&self.params.site, trust.version);
                let judged = BundleTrust { site, keys: &keys, version };
                OpenedBundle::open(text, &judged).map(|opened| {
                    if let Err(error) = self.enforce(opened, text) {
                        self.say(&format!("{}: {error}", self.kept.dir().display()));
                    }
                })
            }
        };
        taken.inspect_err(|refusal| self.params.observer.refused(*refusal))
    }

    /// Puts a bundle in force: at once in memory, then on disk for the next start. A failing disk
    /// must not delay a block.
    pub(super) fn enforce(&mut self, opened: OpenedBundle, text: &str) -> std::io::Result<()> {
        let OpenedBundle { head, blocks } = opened;
        let head = Arc::new(head);
        self.is_in_force(&head, BlockNews::All(&blocks));
        tracing::info!(target: "sitegate::site_server", version = head.version,
            blocks = self.status.blocks, "a bundle is in force");
        drop(blocks);
        let kept = self.kept.keep(&head, text);
        self.unkept = if kept.is_err() { Unkept::of(text) } else { Unkept::default() };
        self.trusts(&head);
        kept.map(drop)
    }

    /// The same for a delta.
    fn enforce_delta(&mut self, head: &Arc<BundleHead>, delta: &BundleDelta, text: &str) {
        let before = self.bundle.clone();
        self.is_in_force(head, BlockNews::Changes(delta));
        tracing::info!(target: "sitegate::site_server", version = head.version,
            added = delta.added.len(), removed = delta.removed.len(), blocks = self.status.blocks,
            "a change of the bundle is in force");
        let has_settings = before.is_none_or(|before| before.settings != head.settings);
        if let Err(error) = self.write_delta(head, text, has_settings) {
            self.say(&format!("{}: {error}", self.kept.dir().display()));
        }
        self.trusts(head);
    }

    fn write_delta(
        &mut self,
        head: &BundleHead,
        text: &str,
        has_settings: bool,
    ) -> std::io::Result<()> {
        if self.unkept.has_documents() {
            self.unkept.push(text);
            return Ok(());
        }
        self.kept.keep_delta(text).inspect_err(|_| self.unkept.push(text))?;
        let kept = self
            .kept
            .keep_trust(head)
            .and_then(|_| if has_settings { self.kept.spell_out(&head.settings) } else { Ok(()) });
        kept.inspect_err(|_| self.unkept.owe_trust())
    }

    fn is_in_force(&mut self, head: &Arc<BundleHead>, news: BlockNews<'_>) {
        if self.bundle.as_ref().is_none_or(|before| before.settings != head.settings) {
            self.certificates_at = None;
        }
        self.status.blocks = self.params.observer.bundle(head, news);
        self.status.bundle = Some(head.clone());
        self.bundle = Some(head.clone());
        self.publish_status();
    }

    /// Uses the keys, servers and roots of the bundle in force from now on.
    fn trusts(&mut self, head: &BundleHead) {
        // As for the certificates: only if something but the blocks has changed.
        if self.certificates_at.is_none() {
            for wanted in self.params.wanted.load().iter() {
                let _ = keep_roots(&self.params.state, wanted, &head.settings);
            }
        }
        self.trust = Some(StoredTrust::of(head));
    }

    /// Retries the write that failed: the keys in the bundle come into force only from disk.
    pub(super) fn keep_again(&mut self) {
        let Some(head) = self.bundle.clone().filter(|_| !self.unkept.is_empty()) else { return };
        let kept = match self.unkept.bundle() {
            Some(text) => self.kept.keep(&head, &text).map(drop),
            None => self.unkept.append_to(&self.kept).and_then(|()| {
                self.kept.keep_trust(&head)?;
                self.kept.spell_out(&head.settings)
            }),
        };
        match kept {
            Ok(()) => self.unkept = Unkept::default(),
            // The folder was removed: only a whole bundle fills it again.
            Err(error) if error.kind() == ErrorKind::NotFound => self.needs_whole = true,
            Err(_) => {}
        }
    }

    /// Accepts a bundle that the operator copied here by hand.
    pub(super) fn incoming(&mut self) {
        let path = self.kept.incoming();
        let Ok((bytes, _)) = read_bounded(&path, BUNDLE_BYTES_MAX as u64) else { return };
        let hash = digest::digest(&digest::SHA256, &bytes).as_ref().to_vec();
        if self.seen_incoming.as_ref() == Some(&hash) {
            return;
        }
        self.seen_incoming = Some(hash);
        let taken = match std::str::from_utf8(&bytes) {
            Ok(text) => self.take(text),
            Err(_) => Err(BundleRefusal::Malformed),
        };
        match taken {
            Ok(()) => drop(std::fs::remove_file(&path)),
            Err(refusal) => tracing::error!(target: "sitegate::site_server",
                code = refusal.code(), path = %path.display(),
                "the imported bundle is rejected: {refusal}"),
        }
    }
}
