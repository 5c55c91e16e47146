//! Watches a store: probes an unreachable database and polls an idle one, so that its health is
//! known before a request needs it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Store, StoreError};

/// The idle time after which a database is polled.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// The retry interval for a store that could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

impl Store {
    /// Watches the store until `stop` is set. Meanwhile no request has to probe.
    pub async fn keep_watch(self, mut stop: watch::Receiver<bool>) {
        let health = self.db.health();
        health.set_watched(true);
        let (mut write_at, mut asked) = (Instant::now(), None);
        while !*stop.borrow() {
            let (now, probe_at) = (Instant::now(), health.next_probe());
            let ask_at = if self.db.is_postgres() {
                health.worked().max(asked).map_or(now, |heard| heard + ASK_AFTER)
            } else {
                now + ASK_AFTER
            };
            let at = match (probe_at, health.is_amiss()) {
                (Some(probe_at), _) => probe_at,
                (None, true) => write_at,
                (None, false) => ask_at,
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(at) => {}
                // A request has found it unreachable, so the probe is due before this poll.
                _ = health.until_away(), if probe_at.is_none() => continue,
            }
            // The result is reported through the store's health.
            let _ = match (probe_at, health.is_amiss()) {
                (Some(_), _) if !health.is_probe_due(Instant::now()) => Ok(()),
                (Some(_), _) if self.db.is_postgres() => self.db.probe().await,
                (Some(_), _) => self.block_version().await.map(drop),
                (None, true) => {
                    let written = self.try_writing().await;
                    write_at = Instant::now() + WRITE_AGAIN;
                    written
                }
                (None, false) if self.db.is_postgres() => {
                    asked = Some(Instant::now());
                    self.block_version().await.map(drop)
                }
                (None, false) => Ok(()),
            };
        }
        health.set_watched(false);
    }

    /// Writes without changing anything.
    async fn try_writing(&self) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.run("UPDATE state SET block_version = block_version WHERE id = 1", &[]).await?;
        tx.commit().await
    }
}
