//! Blocks: what may not be used any more, before its time or for good.
//!
//! A block names something and does not need a record of it: what is unknown may be blocked ahead.
//! Each change raises one version, by which others notice.

use std::collections::HashMap;

use jiff::Timestamp;

use super::audit::{self, Action};
use super::db::{Arg, Row, Tx};
use super::device::{name, normal_id};
use super::follow::CHANNEL;
use super::recover::{self, RECOVERED_BY};
use super::waiting::{self, Dropped, Waiting};
use super::{Store, StoreError, seconds, seconds_up};
use crate::clock::second;

/// What is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked<'a> {
    /// One token.
    Token {
        /// Its `iss`.
        issuer: &'a str,
        /// Its own id.
        id: &'a str,
    },
    /// A device, by its id, its Entra id, or the thumbprint of a key or certificate of it. It is
    /// blocked with all that it is known by. What only waits to be a device's blocks no device: keys
    /// that wait, and what vouched for them, are dropped alone, and cannot be registered again.
    Device(&'a str),
    /// A user.
    User {
        /// The `iss` of the tokens that name it; any if there is none.
        issuer: Option<&'a str>,
        /// What tokens call it.
        id: &'a str,
    },
    /// All tokens of an issuer that were issued before a moment. There is one moment for an issuer:
    /// a block with an earlier one changes nothing, and unblocking looks at the issuer alone.
    IssuedBefore {
        /// Their `iss`.
        issuer: &'a str,
        /// The moment; a part of a second counts as a whole.
        before: Timestamp,
    },
}

/// What is blocked, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedOwned {
    /// As [`Blocked::Token`].
    Token {
        /// Its `iss`.
        issuer: String,
        /// Its own id.
        id: String,
    },
    /// As [`Blocked::Device`].
    Device(String),
    /// As [`Blocked::User`].
    User {
        /// The `iss` of the tokens that name it, if not all.
        issuer: Option<String>,
        /// What tokens call it.
        id: String,
    },
    /// As [`Blocked::IssuedBefore`].
    IssuedBefore {
        /// Their `iss`.
        issuer: String,
        /// The moment.
        before: Timestamp,
    },
}

/// A device that a block is about, with all that it is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Its id.
    pub device: String,
    /// Its id in Microsoft Entra.
    pub entra: Option<String>,
    /// The thumbprints of its keys, in order.
    pub keys: Vec<String>,
    /// The thumbprints of its certificates, in order.
    pub certificates: Vec<String>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// What is blocked.
    pub what: BlockedOwned,
    /// The devices with a record that it is about, in the order of their ids: one, or none, or
    /// several where they share a certificate.
    pub covers: Vec<Covered>,
    /// Why, if whoever blocked it said so.
    pub reason: Option<String>,
    /// Since when, to the second.
    pub at: Timestamp,
    /// Who blocked it.
    pub actor: String,
}

/// All blocks of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Higher than that of any earlier moment with other blocks.
    pub version: i64,
    /// What tells this state from one of the same version in another copy of the store.
    pub mark: String,
    /// The blocks, the oldest first.
    pub entries: Vec<BlockEntry>,
}

/// A block as a row is found by it.
struct Key {
    kind: &'static str,
    issuer: String,
    name: String,
    shown: String,
    before: Option<i64>,
}

impl Blocked<'_> {
    fn key(&self) -> Key {
        let (kind, issuer, name, shown, before) = match *self {
            Blocked::Token { issuer, id } => ("token", issuer, name(id), id.to_owned(), None),
            Blocked::Device(id) => ("device", "", name(id), normal_id(id), None),
            Blocked::User { issuer, id } => {
                ("user", issuer.unwrap_or_default(), id.to_owned(), id.to_owned(), None)
            }
            Blocked::IssuedBefore { issuer, before } => {
                let before = Some(seconds_up(before));
                ("issued-before", issuer, String::new(), String::new(), before)
            }
        };
        Key { kind, issuer: issuer.to_owned(), name, shown, before }
    }

    /// Kind, issuer and name by which its row is found.
    pub(super) fn place(&self) -> (&'static str, String, String) {
        let Key { kind, issuer, name, .. } = self.key();
        (kind, issuer, name)
    }
}

impl Key {
    fn subject(&self) -> &str {
        if self.shown.is_empty() { &self.issuer } else { &self.shown }
    }

    fn detail(&self, reason: Option<&str>) -> String {
        let mut detail = self.kind.to_owned();
        if let Some(before) = self.before {
            detail.push_str(&format!(" {}", second(before)));
        }
        if !self.issuer.is_empty() && !self.shown.is_empty() {
            detail.push_str(&format!(" of {}", self.issuer));
        }
        if let Some(reason) = reason {
            detail.push_str(&format!(": {reason}"));
        }
        detail
    }
}

impl Store {
    /// Block something, known or not. `false` if it was blocked already; the earlier reason stays.
    /// Keys that wait by what is blocked are dropped.
    ///
    /// # Errors
    /// What the database answers; nothing is blocked then.
    pub async fn block(
        &self,
        what: &Blocked<'_>,
        reason: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let (changed, dropped) = block(&mut tx, what, reason, actor, now).await?;
        if changed || !dropped.is_empty() {
            self.commit_and_tell(tx).await?;
        }
        Ok(changed)
    }

    /// Take a block back. `false` if there was none. A device that is blocked by several of its
    /// names stays blocked by the others.
    ///
    /// # Errors
    /// What the database answers; the block is still there then.
    pub async fn unblock(
        &self,
        what: &Blocked<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let key = what.key();
        let mut tx = self.db.begin().await?;
        let sql = "DELETE FROM blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
        let args = [key.kind.into(), (&key.issuer).into(), (&key.name).into()];
        let changed = tx.run(sql, &args).await? > 0;
        if changed {
            let detail = key.detail(None);
            audit::write(&mut tx, Action::Unblocked, key.subject(), &detail, actor, now).await?;
            self.commit_and_tell(tx).await?;
        }
        Ok(changed)
    }

    /// All blocks, with the version that they have together.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn blocks(&self) -> Result<Blocks, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let version: i64 = match tx.row(VERSION, &[]).await? {
            Some(row) => row.get(0)?,
            None => return Err(StoreError::Content("no state".into())),
        };
        let sql = "SELECT mark FROM block_history WHERE version = $1";
        let mark = match tx.row(sql, &[Arg::from(version)]).await? {
            Some(row) => row.get(0)?,
            None => String::new(),
        };
        let covers = covered(&mut tx).await?;
        let sql = "SELECT kind, issuer, name, shown, before, reason, at, actor FROM blocks \
                   ORDER BY at, kind, issuer, name";
        let rows = tx.rows(sql, &[]).await?;
        let entries = rows.iter().map(|row| read(row, &covers)).collect::<Result<_, _>>()?;
        Ok(Blocks { version, mark, entries })
    }

    /// The version of the blocks: whoever has read [`Store::blocks`] with it has nothing to read.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn block_version(&self) -> Result<i64, StoreError> {
        match self.db.rows(VERSION, &[]).await?.first() {
            Some(row) => row.get(0),
            None => Err(StoreError::Content("no state".into())),
        }
    }

    /// Commit what followers have to look at.
    pub(super) async fn commit_and_tell(&self, mut tx: Tx) -> Result<(), StoreError> {
        // Among the last statements: whoever changes blocks at the same time waits here.
        let sql = "UPDATE state SET block_version = block_version + 1 WHERE id = 1 \
                   RETURNING block_version";
        let row = tx.row(sql, &[]).await?;
        let row = row.ok_or_else(|| StoreError::Content("no state".into()))?;
        let version = row.get(0)?;
        recover::remember(&mut tx, version).await?;
        tx.notify(CHANNEL).await?;
        tx.commit().await?;
        self.heard(version);
        Ok(())
    }

    /// Tell the followers in this process of a version that has been committed.
    pub(super) fn heard(&self, version: i64) {
        self.shared.heard.send_if_modified(|heard| {
            let newer = version > *heard;
            *heard = version.max(*heard);
            newer
        });
    }
}

pub(super) const VERSION: &str = "SELECT block_version FROM state WHERE id = 1";

/// Block something, and drop what waits by it.
pub(super) async fn block(
    tx: &mut Tx,
    what: &Blocked<'_>,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<(bool, Vec<Dropped>), StoreError> {
    // Whoever registers what has this name waits until it is known to be blocked.
    tx.lock_names(&mut [what.key().name.as_str()]).await?;
    block_unlocked(tx, what, reason, actor, now).await
}

/// The same for many at once, for whose names a database has not enough locks.
pub(super) async fn block_unlocked(
    tx: &mut Tx,
    what: &Blocked<'_>,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<(bool, Vec<Dropped>), StoreError> {
    let key = what.key();
    let sql = "INSERT INTO blocks (kind, issuer, name, shown, before, reason, at, actor) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (kind, name, issuer) DO UPDATE SET before = excluded.before, \
               reason = excluded.reason, at = excluded.at, actor = excluded.actor \
               WHERE blocks.before < excluded.before \
               OR (blocks.actor = $9 AND excluded.actor <> $9)";
    let args = [
        key.kind.into(),
        (&key.issuer).into(),
        (&key.name).into(),
        (&key.shown).into(),
        key.before.into(),
        reason.into(),
        seconds(now).into(),
        actor.into(),
        // What was recovered after a restore is somebody's own block once they say so.
        RECOVERED_BY.into(),
    ];
    let changed = tx.run(sql, &args).await? > 0;
    if changed {
        recover::remembered(tx, key.kind, &key.issuer, &key.name).await?;
        let detail = key.detail(reason);
        audit::write(tx, Action::Blocked, key.subject(), &detail, actor, now).await?;
    }
    let by = match what {
        Blocked::Device(_) => Waiting::Named(&key.name),
        Blocked::Token { .. } => Waiting::ByToken { issuer: &key.issuer, id: &key.name },
        Blocked::User { .. } | Blocked::IssuedBefore { .. } => return Ok((changed, Vec::new())),
    };
    let dropped = waiting::drop_keys(tx, by, "blocked", actor, now).await?;
    Ok((changed, dropped))
}

/// Whether a device is blocked, known or not, by anything that it is known by.
pub(super) async fn device_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM blocks WHERE kind = 'device' AND name IN (SELECT $2 \
               UNION ALL SELECT n.name FROM device_names n WHERE n.device = $1)";
    tx.any(sql, &[id.into(), (&name(id)).into()]).await
}

/// Whether a user is blocked, for whichever issuer: a person who is blocked at the directory must
/// not go on by a token of the site.
pub(super) async fn user_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    tx.any("SELECT 1 FROM blocks WHERE kind = 'user' AND name = $1", &[id.into()]).await
}

/// The devices that blocks are about, by the name in the block.
async fn covered(tx: &mut Tx) -> Result<HashMap<String, Vec<Covered>>, StoreError> {
    let sql = "WITH hit AS MATERIALIZED (SELECT block, device FROM blocked_devices) \
               SELECT h.block, h.device, 'entra', d.entra FROM hit h \
               JOIN devices d ON d.id = h.device \
               UNION ALL SELECT h.block, h.device, 'key', k.thumbprint FROM hit h \
               JOIN device_keys k ON k.device = h.device AND k.active \
               UNION ALL SELECT h.block, h.device, 'certificate', c.thumbprint FROM hit h \
               JOIN device_certificates c ON c.device = h.device \
               ORDER BY 1, 2, 3, 4";
    let mut covers: HashMap<String, Vec<Covered>> = HashMap::new();
    for row in tx.rows(sql, &[]).await? {
        let (block, device, kind): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let known: Option<String> = row.get(3)?;
        let devices = covers.entry(block).or_default();
        if devices.last().is_none_or(|last| last.device != device) {
            devices.push(Covered { device, ..Covered::default() });
        }
        let Some((covered, known)) = devices.last_mut().zip(known) else { continue };
        match kind.as_str() {
            "key" => covered.keys.push(known),
            "certificate" => covered.certificates.push(known),
            _ => covered.entra = Some(known),
        }
    }
    Ok(covers)
}

fn read(row: &Row, covers: &HashMap<String, Vec<Covered>>) -> Result<BlockEntry, StoreError> {
    let (kind, issuer, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (id, before): (String, Option<i64>) = (row.get(3)?, row.get(4)?);
    let (what, covers) = match (kind.as_str(), before) {
        ("token", _) => (BlockedOwned::Token { issuer, id }, None),
        ("device", _) => (BlockedOwned::Device(id), covers.get(&name)),
        ("user", _) => {
            (BlockedOwned::User { issuer: Some(issuer).filter(|i| !i.is_empty()), id }, None)
        }
        ("issued-before", Some(before)) => {
            (BlockedOwned::IssuedBefore { issuer, before: second(before) }, None)
        }
        _ => return Err(StoreError::Content(format!("block of kind '{kind}'"))),
    };
    Ok(BlockEntry {
        what,
        covers: covers.cloned().unwrap_or_default(),
        reason: row.get(5)?,
        at: second(row.get(6)?),
        actor: row.get(7)?,
    })
}
