//! Who did what, and when. A line is written in the transaction of what it tells of.
//!
//! Never changes or removes a line.

use jiff::Timestamp;

use super::db::{Arg, Row, Tx};
use super::{Store, StoreError, seconds};
use crate::clock::second;

macro_rules! actions {
    ($($(#[$doc:meta])+ $variant:ident = $word:literal),+ $(,)?) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action { $($(#[$doc])+ $variant),+ }

        impl Action {
            /// Every action, in the order of the documentation.
            pub const ALL: &[Action] = &[$(Action::$variant),+];

            /// The word in the store and in documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Action::$variant => $word),+ }
            }
        }
    };
}

actions! {
    /// A process opened the store.
    Opened = "store.opened",
    /// A device has a record, and may work.
    Registered = "device.registered",
    /// A device has a record, and waits for approval.
    Claimed = "device.claimed",
    /// A device was away for too long, and has registered again.
    Returned = "device.returned",
    /// A device has another key.
    KeyAdded = "device.key-added",
    /// A key claims to be a device's, and waits for approval.
    KeyClaimed = "device.key-claimed",
    /// More is known of a device: its Entra id, or a certificate.
    Learned = "device.learned",
    /// A waiting key was approved, and its device with it.
    Approved = "device.approved",
    /// A waiting key was rejected.
    Rejected = "device.key-rejected",
    /// A waiting key was dropped: it expired, or it or what vouched for it was blocked.
    KeyDropped = "device.key-dropped",
    /// A device that only ever waited has no key left, and no record.
    Forgotten = "device.forgotten",
    /// A registration was refused.
    RegistrationRefused = "device.refused",
    /// A token was issued.
    Issued = "token.issued",
    /// A token was refused to somebody.
    GrantRefused = "token.refused",
    /// A token, device, user, or what was issued before a moment, was blocked.
    Blocked = "block.added",
    /// A block was taken back.
    Unblocked = "block.removed",
    /// The store turned out to be an older copy; what it had forgotten was blocked again.
    Restored = "store.restored",
    /// The site's signing keys were changed.
    KeysChanged = "keys.changed",
    /// A join token was made.
    JoinAllowed = "gateway.allowed",
    /// A gateway joined the site.
    Joined = "gateway.joined",
    /// A gateway is known by another certificate.
    IdentityRenewed = "gateway.renewed",
    /// A gateway was put out of the site.
    GatewayRevoked = "gateway.revoked",
    /// A gateway was given a role certificate.
    CertificateIssued = "certificate.issued",
    /// A role certificate was blocked.
    CertificateBlocked = "certificate.blocked",
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number; later ones are higher.
    pub id: i64,
    /// When, to the second.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: Action,
    /// What it was done to: an id.
    pub subject: String,
    /// More, for people.
    pub detail: String,
}

/// Which lines. The default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter<'a> {
    /// Of one action.
    pub action: Option<Action>,
    /// About one subject, exactly.
    pub subject: Option<&'a str>,
    /// By one actor, exactly.
    pub actor: Option<&'a str>,
}

impl Store {
    /// The latest lines first, at most `limit`, and only those with a number below `before`.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn audit(
        &self,
        filter: AuditFilter<'_>,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = "SELECT id, at, actor, action, subject, detail FROM audit \
                   WHERE ($1 IS NULL OR action = $1) AND ($2 IS NULL OR subject = $2) \
                   AND ($3 IS NULL OR actor = $3) AND ($4 IS NULL OR id < $4) \
                   ORDER BY id DESC LIMIT $5";
        let action = filter.action.map(Action::as_str);
        let args: [Arg<'_>; 5] = [
            action.into(),
            filter.subject.into(),
            filter.actor.into(),
            before.into(),
            i64::from(limit).into(),
        ];
        self.db.rows(sql, &args).await?.iter().map(read).collect()
    }

    /// Write a line about something that is not kept here otherwise.
    ///
    /// # Errors
    /// What the database answers; the line is not written then.
    pub async fn record(
        &self,
        action: Action,
        subject: &str,
        detail: &str,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        write(&mut tx, action, subject, detail, actor, now).await?;
        tx.commit().await
    }
}

/// Write a line, as a part of what it tells of.
pub(super) async fn write(
    tx: &mut Tx,
    action: Action,
    subject: &str,
    detail: &str,
    actor: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)";
    let args =
        [seconds(now).into(), actor.into(), action.as_str().into(), subject.into(), detail.into()];
    tx.run(sql, &args).await?;
    Ok(())
}

fn read(row: &Row) -> Result<AuditRecord, StoreError> {
    let word: String = row.get(3)?;
    let action = Action::ALL.iter().copied().find(|action| action.as_str() == word);
    Ok(AuditRecord {
        id: row.get(0)?,
        at: second(row.get(1)?),
        actor: row.get(2)?,
        action: action.ok_or_else(|| StoreError::Content(format!("action '{word}'")))?,
        subject: row.get(4)?,
        detail: row.get(5)?,
    })
}
