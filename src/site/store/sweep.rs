//! Removes records that have served their time.

use jiff::Timestamp;

use super::{Store, StoreError, history, seconds, waiting};

/// How long a token's record is kept after its expiry, for investigations.
const KEPT_S: i64 = 30 * 24 * 60 * 60;
/// How long a token's block is kept after the token's expiry. Far longer than clocks may differ, and
/// short, because every gateway has every block: clients that revoke a token a day each would
/// otherwise fill the bundle.
const BLOCK_KEPT_S: i64 = 24 * 60 * 60;
/// How long the uses of other issuers' tokens are kept: longer than any token lives.
const FOREIGN_KEPT_S: i64 = 400 * 24 * 60 * 60;

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expired assertions.
    pub proofs: u64,
    /// Tokens that expired thirty days ago.
    pub tokens: u64,
    /// Keys that waited for approval for thirty days.
    pub keys: u64,
}

impl Store {
    /// Removes old records: expired assertions, blocks of tokens a day after the tokens' expiry,
    /// tokens thirty days after it, and keys that have waited for approval for thirty days, with
    /// devices that have no other key. All other blocks and devices and the audit log stay.
    ///
    /// # Errors
    /// The database's error; nothing is then removed.
    pub async fn sweep(&self, at: Timestamp) -> Result<Swept, StoreError> {
        let now = seconds(at);
        let mut tx = self.db.begin().await?;
        let proofs = tx.run("DELETE FROM proofs WHERE until < $1", &[now.into()]).await?;
        let before = [(now - KEPT_S).into()];
        // The uses of the site's own tokens are removed with them.
        let sql = "DELETE FROM token_uses WHERE EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = token_uses.id AND t.issuer = token_uses.issuer AND t.expires < $1)";
        tx.run(sql, &before).await?;
        // Blocks of expired tokens, which are refused anyway; clients block their own tokens by
        // revocation.
        let sql = "DELETE FROM blocks WHERE kind = 'token' AND EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = blocks.name AND t.issuer = blocks.issuer AND t.expires < $1) \
                   RETURNING issuer, name";
        let unblocked = tx.rows(sql, &[(now - BLOCK_KEPT_S).into()]).await?;
        for row in &unblocked {
            tx.touch(("token", row.get(0)?, row.get(1)?));
        }
        let tokens = tx.run("DELETE FROM tokens WHERE expires < $1", &before).await?;
        let sql = "DELETE FROM token_uses WHERE last < $1 AND NOT EXISTS (SELECT 1 FROM tokens t \
                   WHERE t.id = token_uses.id AND t.issuer = token_uses.issuer)";
        tx.run(sql, &[(now - FOREIGN_KEPT_S).into()]).await?;
        for sql in [
            "DELETE FROM join_tokens WHERE expires < $1",
            "DELETE FROM gateway_identities WHERE expires < $1",
            "DELETE FROM role_certificates WHERE expires < $1",
        ] {
            tx.run(sql, &before).await?;
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
        Ok(Swept { proofs, tokens, keys })
    }
}
