//! The site's gateways on other hosts: joins, client certificates, and bundle versions.
//!
//! A join token is stored only as a fingerprint. Never holds a private key.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::audit::{self, Action};
use super::block_log::OTHER;
use super::certificate::block_certificates;
use super::db::{DbRow, Tx};
use super::{Store, StoreError, seconds, words};
use crate::clock::second;

/// The largest number of client certificates of one gateway: the current one, and those it is about
/// to replace.
const IDENTITIES_MAX: usize = 3;

/// A gateway of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// Its name.
    pub name: String,
    /// The allowed host names of its site systems.
    pub hosts: Vec<String>,
    /// The allowed roles of its site systems.
    pub roles: Vec<String>,
    /// The time of its join.
    pub joined: Timestamp,
    /// The time of its revocation, if it was revoked.
    pub revoked: Option<Timestamp>,
    /// The reason of the revocation.
    pub revoke_reason: Option<String>,
    /// The bundle version that it has reported; 0 for none.
    pub bundle: u64,
    /// The time of its last bundle request.
    pub seen: Option<Timestamp>,
}

/// A new join token.
#[derive(Clone, Debug)]
pub struct Joining<'a> {
    /// The token's fingerprint.
    pub fingerprint: &'a str,
    /// The gateway that it is for.
    pub name: &'a str,
    /// The allowed host names of its site systems.
    pub hosts: &'a [String],
    /// The allowed roles of its site systems.
    pub roles: &'a [String],
    /// The end of its validity.
    pub expires: Timestamp,
}

/// A client certificate that identifies a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayIdentity<'a> {
    /// Its SHA-256 thumbprint, in the form of RFC 8705.
    pub thumbprint: &'a str,
    /// The end of its acceptance.
    pub expires: Timestamp,
}

/// Why a join is refused.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No such join token.
    #[error("the join token is not one of this site's")]
    Unknown,
    /// The token has been used.
    #[error("the join token has been used")]
    Used,
    /// The token has expired.
    #[error("the join token has expired")]
    Expired,
    /// The token is for a gateway with another name.
    #[error("the join token is for another gateway")]
    Name,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Stores a join token. Invalidates an unused one for the same name.
    ///
    /// # Errors
    /// The database's error; the token is then invalid.
    pub async fn allow_join(
        &self,
        joining: &Joining<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (hosts, roles) = (joining.hosts.join(" "), joining.roles.join(" "));
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [joining.name]).await?;
        forget_tokens(&mut tx, joining.name).await?;
        let sql = "INSERT INTO join_tokens (fingerprint, name, hosts, roles, expires) \
                   VALUES ($1, $2, $3, $4, $5)";
        let args = [
            joining.fingerprint.into(),
            joining.name.into(),
            (&hosts).into(),
            (&roles).into(),
            seconds(joining.expires).into(),
        ];
        tx.run(sql, &args).await?;
        let detail = format!("hosts {hosts}; roles {roles}; until {}", joining.expires);
        audit::write(&mut tx, Action::JoinAllowed, joining.name, &detail, actor, now).await?;
        tx.commit().await
    }

    /// Joins a gateway with a join token, which is then used up. An existing gateway of that name
    /// gets the token's hosts and roles; its former client certificates are removed.
    ///
    /// # Errors
    /// Why the join is refused. If the response was lost, the gateway may retry with the same
    /// certificate.
    pub async fn join(
        &self,
        fingerprint: &str,
        name: &str,
        identity: GatewayIdentity<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<GatewayRecord, JoinError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [name]).await?;
        let sql = "SELECT name, hosts, roles, expires, used FROM join_tokens \
                   WHERE fingerprint = $1";
        let found = tx.row(sql, &[fingerprint.into()]).await?.ok_or(JoinError::Unknown)?;
        let (meant, expires): (String, i64) = (found.get(0)?, found.get(3)?);
        let (hosts, roles): (String, String) = (found.get(1)?, found.get(2)?);
        let used: Option<i64> = found.get(4)?;
        if meant != name {
            return Err(JoinError::Name);
        }
        if used.is_some() {
            let known = gateway_of(&mut tx, identity.thumbprint).await?;
            return known.filter(|gateway| gateway.name == name).ok_or(JoinError::Used);
        }
        if expires <= seconds(now) {
            return Err(JoinError::Expired);
        }
        let at = seconds(now);
        let sql = "UPDATE join_tokens SET used = $2 WHERE fingerprint = $1";
        tx.run(sql, &[fingerprint.into(), at.into()]).await?;
        tx.run("DELETE FROM gateway_identities WHERE gateway = $1", &[name.into()]).await?;
        // The former gateway of this name may be another machine.
        block_certificates(&mut tx, name, at).await?;
        let sql = "INSERT INTO gateways (name, hosts, roles, joined, bundle) \
                   VALUES ($1, $2, $3, $4, 0) ON CONFLICT (name) DO UPDATE SET \
                   hosts = excluded.hosts, roles = excluded.roles, joined = excluded.joined, \
                   revoked = NULL, revoke_reason = NULL, bundle = 0, seen = NULL";
        tx.run(sql, &[name.into(), (&hosts).into(), (&roles).into(), at.into()]).await?;
        add_identity(&mut tx, name, identity, now).await?;
        let detail = format!("hosts {hosts}; roles {roles}");
        audit::write(&mut tx, Action::Joined, name, &detail, actor, now).await?;
        let joined = gateway_of(&mut tx, identity.thumbprint).await?;
        self.commit_and_tell(tx).await?;
        joined.ok_or_else(|| StoreError::Content("no gateway".into()).into())
    }

    /// The gateway that a client certificate identifies, if the certificate is still accepted; also
    /// a revoked gateway.
    ///
    /// # Errors
    /// The database's error.
    pub async fn gateway_by_identity(
        &self,
        thumbprint: &str,
        now: Timestamp,
    ) -> Result<Option<GatewayRecord>, StoreError> {
        let sql = "SELECT g.name, g.hosts, g.roles, g.joined, g.revoked, g.revoke_reason, \
                   g.bundle, g.seen FROM gateways g \
                   JOIN gateway_identities i ON i.gateway = g.name \
                   WHERE i.thumbprint = $1 AND i.expires > $2";
        let rows = self.db.rows(sql, &[thumbprint.into(), seconds(now).into()]).await?;
        rows.first().map(read).transpose()
    }

    /// Adds a client certificate of a gateway; removes the oldest if there are too many.
    ///
    /// # Errors
    /// The database's error.
    pub async fn add_gateway_identity(
        &self,
        gateway: &str,
        identity: GatewayIdentity<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        add_identity(&mut tx, gateway, identity, now).await?;
        audit::write(&mut tx, Action::IdentityRenewed, gateway, identity.thumbprint, gateway, now)
            .await?;
        tx.commit().await
    }

    /// Records the bundle versions of gateways, by name.
    ///
    /// # Errors
    /// The database's error; none is then recorded.
    pub async fn gateways_have(
        &self,
        bundles: &BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE gateways SET bundle = $2, seen = $3 WHERE name = $1";
        for (gateway, bundle) in bundles {
            let bundle = i64::try_from(*bundle).unwrap_or(i64::MAX);
            tx.run(sql, &[gateway.into(), bundle.into(), seconds(now).into()]).await?;
        }
        tx.commit().await
    }

    /// All gateways, by name.
    ///
    /// # Errors
    /// The database's error.
    pub async fn gateways(&self) -> Result<Vec<GatewayRecord>, StoreError> {
        let sql = "SELECT g.name, g.hosts, g.roles, g.joined, g.revoked, g.revoke_reason, \
                   g.bundle, g.seen FROM gateways g ORDER BY g.name";
        self.db.rows(sql, &[]).await?.iter().map(read).collect()
    }

    /// Revokes a gateway: it gets no more bundles, and its certificates are blocked. `None` if
    /// there is no such gateway, `false` if it was already revoked.
    ///
    /// # Errors
    /// The database's error; the gateway is then not revoked.
    pub async fn revoke_gateway(
        &self,
        name: &str,
        reason: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [name]).await?;
        let revoked = revoke(&mut tx, name, reason, actor, now).await?;
        if revoked == Some(true) {
            self.commit_and_tell(tx).await?;
        }
        Ok(revoked)
    }

    /// The names of the revoked gateways, sorted.
    ///
    /// # Errors
    /// The database's error.
    pub async fn revoked_gateways(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM gateways WHERE revoked IS NOT NULL ORDER BY name";
        self.db.rows(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
    }
}

/// Revokes a gateway in a transaction: `None` if there is no such gateway, `false` if it was
/// already revoked.
pub(super) async fn revoke(
    tx: &mut Tx,
    name: &str,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    tx.touch((OTHER, String::new(), String::new()));
    let sql = "SELECT revoked FROM gateways WHERE name = $1";
    let Some(row) = tx.row(sql, &[name.into()]).await? else { return Ok(None) };
    if row.get::<Option<i64>>(0)?.is_some() {
        return Ok(Some(false));
    }
    let at = seconds(now);
    let sql = "UPDATE gateways SET revoked = $2, revoke_reason = $3 WHERE name = $1";
    tx.run(sql, &[name.into(), at.into(), reason.into()]).await?;
    tx.run("DELETE FROM gateway_identities WHERE gateway = $1", &[name.into()]).await?;
    forget_tokens(tx, name).await?;
    block_certificates(tx, name, at).await?;
    let detail = reason.unwrap_or_default();
    audit::write(tx, Action::GatewayRevoked, name, detail, actor, now).await?;
    Ok(Some(true))
}

/// Deletes unused join tokens for a name.
async fn forget_tokens(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM join_tokens WHERE name = $1 AND used IS NULL";
    tx.run(sql, &[name.into()]).await.map(drop)
}

async fn gateway_of(tx: &mut Tx, thumbprint: &str) -> Result<Option<GatewayRecord>, StoreError> {
    let sql = "SELECT g.name, g.hosts, g.roles, g.joined, g.revoked, g.revoke_reason, \
               g.bundle, g.seen FROM gateways g JOIN gateway_identities i ON i.gateway = g.name \
               WHERE i.thumbprint = $1";
    tx.row(sql, &[thumbprint.into()]).await?.as_ref().map(read).transpose()
}

async fn add_identity(
    tx: &mut Tx,
    gateway: &str,
    identity: GatewayIdentity<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO gateway_identities (thumbprint, gateway, added, expires) \
               VALUES ($1, $2, $3, $4) ON CONFLICT (thumbprint) DO NOTHING";
    let args = [
        identity.thumbprint.into(),
        gateway.into(),
        seconds(now).into(),
        seconds(identity.expires).into(),
    ];
    tx.run(sql, &args).await?;
    let sql = "SELECT thumbprint FROM gateway_identities WHERE gateway = $1 \
               ORDER BY added DESC, expires DESC";
    for row in tx.rows(sql, &[gateway.into()]).await?.iter().skip(IDENTITIES_MAX) {
        let old: String = row.get(0)?;
        let sql = "DELETE FROM gateway_identities WHERE thumbprint = $1";
        tx.run(sql, &[(&old).into()]).await?;
    }
    Ok(())
}

fn read(row: &DbRow) -> Result<GatewayRecord, StoreError> {
    let bundle: i64 = row.get(6)?;
    Ok(GatewayRecord {
        name: row.get(0)?,
        hosts: words(row.get(1)?),
        roles: words(row.get(2)?),
        joined: second(row.get(3)?),
        revoked: row.get::<Option<i64>>(4)?.map(second),
        revoke_reason: row.get(5)?,
        bundle: u64::try_from(bundle).unwrap_or_default(),
        seen: row.get::<Option<i64>>(7)?.map(second),
    })
}
