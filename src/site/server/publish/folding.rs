//! Makes one whole bundle of many deltas, so that new gateways and starts need not read them all.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::super::documents::{FoldedBundle, PublishedDocuments};
use super::BundlePublisher;

impl BundlePublisher {
    /// Begins to make a whole bundle of many deltas, on another thread.
    pub(super) fn fold_if_due(&mut self) {
        let Some(documents) = self.documents.clone() else { return };
        if self.folding.is_some() || !documents.needs_bundle() {
            return;
        }
        let (state, now) = (self.sources.state.clone(), self.clock.now());
        self.folding = Some(PublishedDocuments::clone(&documents).fold(state, now));
    }

    pub(super) async fn replace_bundle(&mut self, folded: FoldedBundle) {
        let FoldedBundle { version, blocks, text: Some(text) } = folded else { return };
        if text.len() > self.sources.bytes_max {
            return;
        }
        // A whole bundle may have been published in between.
        if self.documents.as_ref().is_none_or(|documents| documents.base().0 >= version) {
            return;
        }
        let now = self.clock.now();
        if let Err(error) = self.store.replace_bundle(version, &text, blocks, now).await {
            tracing::debug!(target: "sitegate::site_server", %error, "the deltas stay as they are");
            return;
        }
        let Some(documents) = &self.documents else { return };
        let documents = Arc::new(documents.with_bundle(version, text));
        self.documents = Some(documents.clone());
        self.send(documents);
    }
}

/// The whole bundle that is being made, once it is; never if none is.
pub(super) async fn folded(folding: &mut Option<JoinHandle<FoldedBundle>>) -> FoldedBundle {
    let Some(task) = folding else { return std::future::pending().await };
    let folded = task.await.unwrap_or(FoldedBundle { version: 0, blocks: 0, text: None });
    *folding = None;
    folded
}
