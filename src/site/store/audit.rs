//! The audit log: who did what, and when. A line is written in the transaction of the action.
//!
//! Lines are never changed; old ones are removed by their retention.

use jiff::Timestamp;

use super::db::{Arg, DbRow, Tx};
use super::device::normal_id;
use super::{Store, StoreError, seconds, seconds_up};
use crate::clock::second;

macro_rules! actions {
    ($($(#[$doc:meta])+ $variant:ident = $word:literal),+ $(,)?) => {
        /// An audited action.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action { $($(#[$doc])+ $variant),+ }

        impl Action {
            /// Every action, in the order of the documentation.
            pub const ALL: &[Action] = &[$(Action::$variant),+];

            /// The action with this name.
            pub fn from_name(name: &str) -> Option<Action> {
                Action::ALL.iter().copied().find(|action| action.as_str() == name)
            }

            /// The name in the store and in documentation.
            pub fn as_str(self) -> &'static str {
                match self { $(Action::$variant => $word),+ }
            }
        }
    };
}

actions! {
    /// A process opened the store.
    Opened = "store.opened",
    /// A device was registered, and is approved.
    Registered = "device.registered",
    /// A device was registered, and waits for approval.
    Claimed = "device.claimed",
    /// A device that had lapsed has registered again.
    Returned = "device.returned",
    /// A device got another key.
    KeyAdded = "device.key-added",
    /// A key claims an existing device, and waits for approval.
    KeyClaimed = "device.key-claimed",
    /// A device got an Entra id or a certificate.
    Learned = "device.learned",
    /// A waiting key and its device were approved.
    Approved = "device.approved",
    /// A waiting key was rejected.
    Rejected = "device.key-rejected",
    /// A waiting key was removed: it expired, or it or its credential was blocked.
    KeyDropped = "device.key-dropped",
    /// A device that was never approved has lost its last key, and its record.
    Forgotten = "device.forgotten",
    /// A registration was refused.
    RegistrationRefused = "device.refused",
    /// A token was issued.
    Issued = "token.issued",
    /// A token request was refused.
    GrantRefused = "token.refused",
    /// A token, a device, a user, or an issuer's tokens from before a given time were blocked.
    Blocked = "block.added",
    /// A block was removed.
    Unblocked = "block.removed",
    /// The store was an older copy; the blocks that it had lost were added again.
    Restored = "store.restored",
    /// The site's signing keys were changed.
    KeysChanged = "keys.changed",
    /// A join token was created.
    JoinAllowed = "gateway.allowed",
    /// A gateway joined the site.
    Joined = "gateway.joined",
    /// A gateway has another client certificate as its identity.
    IdentityRenewed = "gateway.renewed",
    /// A gateway was revoked.
    GatewayRevoked = "gateway.revoked",
    /// A role certificate was issued to a gateway.
    CertificateIssued = "certificate.issued",
    /// A role certificate was blocked.
    CertificateBlocked = "certificate.blocked",
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number; later ones are higher.
    pub id: i64,
    /// The time, in seconds.
    pub at: Timestamp,
    /// The actor.
    pub actor: String,
    /// The action.
    pub action: Action,
    /// The id of the affected object.
    pub subject: String,
    /// Details, as text.
    pub detail: String,
}

/// Selects lines. The default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter<'a> {
    /// With this action.
    pub action: Option<Action>,
    /// With this exact subject; a device id in any case.
    pub subject: Option<&'a str>,
    /// With this exact actor.
    pub actor: Option<&'a str>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}

/// A page of the lines about one subject or all. A condition that is optional by `OR` cannot use an
/// index.
macro_rules! audit_page {
    ($of:literal) => {
        concat!(
            "SELECT id, at, actor, action, subject, detail FROM audit WHERE ",
            $of,
            " AND ($1 IS NULL OR action = $1) AND ($3 IS NULL OR actor = $3) \
             AND ($4 IS NULL OR id < $4) AND at >= $5 AND at < $6 ORDER BY id DESC LIMIT $7"
        )
    };
}

impl Store {
    /// Reads lines, the latest first, at most `limit`, with numbers below `before`.
    ///
    /// # Errors
    /// The database's error.
    pub async fn audit(
        &self,
        filter: AuditFilter<'_>,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = match filter.subject {
            Some(_) => audit_page!("subject = $2"),
            None => audit_page!("CAST($2 AS TEXT) IS NULL"),
        };
        let action = filter.action.map(Action::as_str);
        let subject = filter.subject.map(normal_id);
        let args: [Arg<'_>; 7] = [
            action.into(),
            subject.as_deref().into(),
            filter.actor.into(),
            before.into(),
            filter.since.map_or(i64::MIN, seconds_up).into(),
            filter.until.map_or(i64::MAX, seconds_up).into(),
            i64::from(limit).into(),
        ];
        self.db.rows(sql, &args).await?.iter().map(read).collect()
    }

    /// Writes a line about an action outside the store.
    ///
    /// # Errors
    /// The database's error; the line is then not written.
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

/// Writes a line in the transaction of its action.
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

fn read(row: &DbRow) -> Result<AuditRecord, StoreError> {
    let word: String = row.get(3)?;
    let action = Action::from_name(&word);
    Ok(AuditRecord {
        id: row.get(0)?,
        at: second(row.get(1)?),
        actor: row.get(2)?,
        action: action.ok_or_else(|| StoreError::Content(format!("action '{word}'")))?,
        subject: row.get(4)?,
        detail: row.get(5)?,
    })
}
