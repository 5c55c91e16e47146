//! What a server does before it publishes: it announces itself, makes sure that the store is not an
//! older copy, and looks what else has changed than blocks.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::wanted::MadeOf;
use super::{BundlePublisher, BundleSources, LOOK, PublishError};
use crate::site::key_ring::Keys;
use crate::site::known_blocks::{RESTORE_SETTLES, missing};
use crate::site::store::{BlockChanges, FoundIn, Lost, StoreError};
use crate::site::token_key_error::TokenKeyError;
use crate::site::tokens::bundle_keys;
use crate::token::{BundleSettings, OpenedBundle};

/// The interval of a server's announcements, in seconds.
const SERVER_EVERY_S: i64 = 3_600;

impl BundlePublisher {
    /// Checks that the store knows the last bundle, and recovers lost blocks: an older copy of the
    /// store must not make the next bundle.
    pub(super) async fn forgets_nothing(&mut self, now: Timestamp) -> Result<(), PublishError> {
        let is_incomplete = self.store.is_incomplete();
        let last = self.published.borrow().clone();
        let other = match last {
            Some(last) if !self.store.remembers_bundle(last.head.version).await? => last,
            _ => {
                self.other_since = None;
                return if is_incomplete { Err(PublishError::Restored) } else { Ok(()) };
            }
        };
        let since = *self.other_since.get_or_insert_with(Instant::now);
        if is_incomplete || since.elapsed() < RESTORE_SETTLES {
            return Err(PublishError::Restored);
        }
        let said = OpenedBundle::peek(&other.lines());
        let blocks = said.map(|said| said.blocks).unwrap_or_default();
        let forgotten = missing(&blocks, &self.store.current_blocks().await?);
        let lost = Lost { blocks: &forgotten, gone: &other.head.settings.gone };
        self.store.recover(lost, FoundIn::Bundle(other.head.version), now).await?;
        // The copy may have lost this server's announcement, too.
        (self.other_since, self.made_of, self.settings, self.announced) = (None, None, None, None);
        Ok(())
    }

    /// Announces this server and the origins of its site systems.
    pub(super) async fn announce(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let due =
            |at: Timestamp| !(0..SERVER_EVERY_S).contains(&(now.as_second() - at.as_second()));
        if self.announced.is_none_or(due) {
            let BundleSources { servers, origins, .. } = &self.sources;
            self.store.announce(servers, origins, now).await?;
            self.announced = Some(now);
        }
        Ok(())
    }

    /// The keys that sign, read from their files as often as other sources outside the store.
    pub(super) fn signers(&mut self, now: Timestamp) -> Result<Arc<Keys>, TokenKeyError> {
        if let Some((keys, read)) = &self.signers
            && read.elapsed() < LOOK
        {
            return Ok(keys.clone());
        }
        let keys = Arc::new(bundle_keys(&self.sources.state, now)?);
        self.signers = Some((keys.clone(), Instant::now()));
        Ok(keys)
    }

    /// The settings of the last document, if nothing but blocks has changed since.
    pub(super) fn known_settings(
        &self,
        made_of: &MadeOf,
        changes: Option<&BlockChanges>,
    ) -> Option<BundleSettings> {
        let ((before, settings), said) = (self.settings.as_ref()?, self.documents.as_ref()?);
        let is_known = changes.is_some_and(|changes| !changes.is_more_than_blocks)
            && before.same_sources(made_of)
            && said.head.settings == *settings;
        is_known.then(|| settings.clone())
    }
}
