//! Removes records that have served their time.

use std::time::Duration;

use jiff::Timestamp;

use super::{Store, StoreError, history, seconds, waiting};

/// How long records of joins, identities and certificates are kept after their expiry.
const KEPT_S: i64 = 30 * 24 * 60 * 60;
/// How many lines of the audit log one transaction removes: others wait for it.
const LINES_AT_ONCE: u64 = 10_000;
/// How many pages of a file are given back at once: 40 MB, a fraction of a second.
const PAGES_FREED: &str = "PRAGMA incremental_vacuum(10000)";
/// How long a token's block is kept after the token's expiry. Far longer than clocks may differ, and
/// short, because every gateway has every block: clients that revoke a token a day each would
/// otherwise fill the bundle.
const BLOCK_KEPT_S: i64 = 24 * 60 * 60;
/// How long the uses of other issuers' tokens are kept: longer than any token lives.
const FOREIGN_KEPT_S: i64 = 400 * 24 * 60 * 60;

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The record of a token, after its expiry.
    pub tokens: Duration,
    /// A line of the audit log.
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Retention { tokens: 30 * day, audit: 365 * day }
    }
}

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expired assertions.
    pub proofs: u64,
    /// Tokens that expired long ago.
    pub tokens: u64,
    /// Lines of the audit log.
    pub audit: u64,
    /// Keys that waited for approval for thirty days.
    pub keys: u64,
}

impl Store {
    /// Removes old records: expired assertions, blocks of tokens a day after the tokens' expiry,
    /// tokens and lines of the audit log by their retention, and keys that have waited for approval
    /// for thirty days, with devices that have no other key. All other blocks and devices stay.
    /// Gives free space of a file back to the system.
    ///
    /// # Errors
    /// The database's error; nothing is then removed.
    pub async fn sweep(&self, at: Timestamp, kept: Retention) -> Result<Swept, StoreError> {
        let now = seconds(at);
        let mut tx = self.db.begin().await?;
        let proofs = tx.run("DELETE FROM proofs WHERE until < $1", &[now.into()]).await?;
        let until =
            |kept: Duration| now.saturating_sub(i64::try_from(kept.as_secs()).unwrap_or(i64::MAX));
        let expired = [until(kept.tokens).into()];
        // The uses of the site's own tokens are removed with them.
        let sql = "DELETE FROM token_uses WHERE EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = token_uses.id AND t.issuer = token_uses.issuer AND t.expires < $1)";
        tx.run(sql, &expired).await?;
        // Blocks of expired tokens, which are refused anyway; clients block their own tokens by
        // revocation.
        let sql = "DELETE FROM blocks WHERE kind = 'token' AND EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = blocks.name AND t.issuer = blocks.issuer AND t.expires < $1) \
                   RETURNING issuer, name";
        let unblocked = tx.rows(sql, &[(now - BLOCK_KEPT_S).into()]).await?;
        for row in &unblocked {
            tx.touch(("token", row.get(0)?, row.get(1)?));
        }
        let tokens = tx.run("DELETE FROM tokens WHERE expires < $1", &expired).await?;
        let sql = "DELETE FROM token_uses WHERE last < $1 AND NOT EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = token_uses.id AND t.issuer = token_uses.issuer)";
        tx.run(sql, &[(now - FOREIGN_KEPT_S).into()]).await?;
        for sql in [
            "DELETE FROM join_tokens WHERE expires < $1",
            "DELETE FROM gateway_identities WHERE expires < $1",
            "DELETE FROM role_certificates WHERE expires < $1",
        ] {
            tx.run(sql, &[(now - KEPT_S).into()]).await?;
        }
        history::sweep(&mut tx, at).await?;
        if unblocked.is_empty() {
            tx.commit().await?;
        } else {
            self.commit_and_tell(tx).await?;
        }
        // In a separate transaction: it locks devices, which must be locked before anything else.
        let mut tx = self.db.begin().await?;
        let keys = waiting::expire(&mut tx, at).await?;
        tx.commit().await?;
        let audit = self.sweep_audit(until(kept.audit)).await?;
        self.db.vacuum(PAGES_FREED).await?;
        Ok(Swept { proofs, tokens, audit, keys })
    }

    /// Removes lines of the audit log from before a second, in many short transactions.
    async fn sweep_audit(&self, before: i64) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let sql = "DELETE FROM audit WHERE id IN \
                       (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
            let most = i64::try_from(LINES_AT_ONCE).unwrap_or(i64::MAX);
            let done = tx.run(sql, &[before.into(), most.into()]).await?;
            tx.commit().await?;
            removed += done;
            if done < LINES_AT_ONCE {
                return Ok(removed);
            }
        }
    }
}
