//! Blocks: tokens, devices, users and issuers that must not be accepted any more.
//!
//! A block needs no record of its object: unknown ids can be blocked in advance. Each change
//! increases one version number, by which followers notice it.

use std::collections::HashMap;

use jiff::Timestamp;

use super::audit::{self, Action};
use super::db::{Arg, DbRow, Tx};
use super::device::{name, normal_id};
use super::follow::{CHANNEL, VERSION};
use super::history::{self, RECOVERED_BY};
use super::waiting::{self, Dropped, WaitingKey};
use super::{Store, StoreError, block_log, seconds, seconds_up};
use crate::clock::second;

/// The object of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked<'a> {
    /// One token.
    Token {
        /// Its `iss`.
        issuer: &'a str,
        /// Its id.
        id: &'a str,
    },
    /// A device, by its id, its Entra id, or the thumbprint of one of its keys or certificates. All
    /// of these are blocked with it. The thumbprint of a waiting key, or the id of its voucher,
    /// blocks no device: the waiting keys are removed, and cannot be registered again.
    Device(&'a str),
    /// A user.
    User {
        /// The `iss` of the tokens that name the user; `None` for all issuers.
        issuer: Option<&'a str>,
        /// The user's id in tokens.
        id: &'a str,
    },
    /// All tokens of an issuer from before a given time. There is one time per issuer: a block with
    /// an earlier one changes nothing, and unblocking ignores the time.
    IssuedBefore {
        /// Their `iss`.
        issuer: &'a str,
        /// The time, rounded up to a second.
        before: Timestamp,
    },
}

/// The object of a block, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedOwned {
    /// As [`Blocked::Token`].
    Token {
        /// Its `iss`.
        issuer: String,
        /// Its id.
        id: String,
    },
    /// As [`Blocked::Device`].
    Device(String),
    /// As [`Blocked::User`].
    User {
        /// The `iss` of the tokens that name the user; `None` for all issuers.
        issuer: Option<String>,
        /// The user's id in tokens.
        id: String,
    },
    /// As [`Blocked::IssuedBefore`].
    IssuedBefore {
        /// Their `iss`.
        issuer: String,
        /// The time.
        before: Timestamp,
    },
}

/// A blocked device with all its ids.
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
    /// The object.
    pub what: BlockedOwned,
    /// The recorded devices that it blocks, by id: one, none, or several that share a certificate.
    pub covers: Vec<Covered>,
    /// The reason, if one was given.
    pub reason: Option<String>,
    /// The time of the block, in seconds.
    pub at: Timestamp,
    /// The actor.
    pub actor: String,
}

/// All blocks at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlocks {
    /// Higher than the version of any earlier state.
    pub version: i64,
    /// Distinguishes this state from one with the same version in another copy of the store.
    pub mark: String,
    /// The blocks, the oldest first.
    pub entries: Vec<BlockEntry>,
}

/// The key of a block's row.
struct BlockKey {
    kind: &'static str,
    issuer: String,
    name: String,
    shown: String,
    before: Option<i64>,
}

impl Blocked<'_> {
    fn key(&self) -> BlockKey {
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
        BlockKey { kind, issuer: issuer.to_owned(), name, shown, before }
    }

    /// Kind, issuer and name: the key of its row.
    pub(super) fn place(&self) -> (&'static str, String, String) {
        let BlockKey { kind, issuer, name, .. } = self.key();
        (kind, issuer, name)
    }
}

impl BlockKey {
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
    /// Blocks something, known or not. `false` if it was already blocked; the earlier reason stays.
    /// Removes the waiting keys that the block covers.
    ///
    /// # Errors
    /// The database's error; nothing is then blocked.
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

    /// Removes a block. `false` if there was none. A device that is blocked by several of its ids
    /// stays blocked by the others.
    ///
    /// # Errors
    /// The database's error; the block then still exists.
    pub async fn unblock(
        &self,
        what: &Blocked<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let key = what.key();
        let mut tx = self.db.begin().await?;
        block_log::touch(&mut tx, key.kind, &key.issuer, &key.name).await?;
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

    /// All blocks, and the version of this state.
    ///
    /// # Errors
    /// The database's error.
    pub async fn blocks(&self) -> Result<StoredBlocks, StoreError> {
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
        Ok(StoredBlocks { version, mark, entries })
    }

    /// The version of the blocks. A reader that has this version of [`Store::blocks`] is up to
    /// date.
    ///
    /// # Errors
    /// The database's error.
    pub async fn block_version(&self) -> Result<i64, StoreError> {
        match self.db.rows(VERSION, &[]).await?.first() {
            Some(row) => row.get(0),
            None => Err(StoreError::Content("no state".into())),
        }
    }

    /// Commits a change, and notifies the followers.
    pub(super) async fn commit_and_tell(&self, mut tx: Tx) -> Result<(), StoreError> {
        // One of the last statements: concurrent changes of blocks wait for each other here.
        let sql = "UPDATE state SET block_version = block_version + 1 WHERE id = 1 \
                   RETURNING block_version";
        let row = tx.row(sql, &[]).await?;
        let row = row.ok_or_else(|| StoreError::Content("no state".into()))?;
        let version = row.get(0)?;
        let is_logged = block_log::log(&mut tx, version).await?;
        history::remember(&mut tx, version, is_logged).await?;
        tx.notify(CHANNEL).await?;
        tx.commit().await?;
        self.heard(version);
        Ok(())
    }

    /// Notifies the followers in this process of a committed version.
    pub(super) fn heard(&self, version: i64) {
        self.shared.heard.send_if_modified(|heard| {
            let newer = version > *heard;
            *heard = version.max(*heard);
            newer
        });
    }
}

/// Blocks something, and removes the waiting keys that it covers.
pub(super) async fn block(
    tx: &mut Tx,
    what: &Blocked<'_>,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<(bool, Vec<Dropped>), StoreError> {
    // A concurrent registration with this name waits until the block is visible.
    tx.lock_names(&mut [what.key().name.as_str()]).await?;
    block_unlocked(tx, what, reason, actor, now).await
}

/// Like [`block`], without locks, for more names than a database has locks for.
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
        // A block that was recovered after a restore gets the actor of a later explicit block.
        RECOVERED_BY.into(),
    ];
    let changed = tx.run(sql, &args).await? > 0;
    if changed {
        block_log::touch(tx, key.kind, &key.issuer, &key.name).await?;
        history::remembered(tx, key.kind, &key.issuer, &key.name).await?;
        let detail = key.detail(reason);
        audit::write(tx, Action::Blocked, key.subject(), &detail, actor, now).await?;
    }
    let by = match what {
        Blocked::Device(_) => WaitingKey::Named(&key.name),
        Blocked::Token { .. } => WaitingKey::ByToken { issuer: &key.issuer, id: &key.name },
        Blocked::User { .. } | Blocked::IssuedBefore { .. } => return Ok((changed, Vec::new())),
    };
    let dropped = waiting::drop_keys(tx, by, "blocked", actor, now).await?;
    Ok((changed, dropped))
}

/// Whether a device, known or not, is blocked by any of its ids.
pub(super) async fn device_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM blocks WHERE kind = 'device' AND name IN (SELECT $2 \
               UNION ALL SELECT n.name FROM device_names n WHERE n.device = $1)";
    tx.any(sql, &[id.into(), (&name(id)).into()]).await
}

/// Whether a user is blocked for any issuer: a user who is blocked at the directory must not get by
/// with a token of the site.
pub(super) async fn user_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    tx.any("SELECT 1 FROM blocks WHERE kind = 'user' AND name = $1", &[id.into()]).await
}

/// The devices that blocks cover, by the name in the block.
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

fn read(row: &DbRow, covers: &HashMap<String, Vec<Covered>>) -> Result<BlockEntry, StoreError> {
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
