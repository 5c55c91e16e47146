//! The site's gateways on other hosts: how they join, by what they are known, and what they hold.
//!
//! A join token is known by a fingerprint alone. Never holds a private key.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::certificate::block_certificates;
use super::db::{Row, Tx};
use super::{Store, StoreError, seconds};
use crate::clock::second;

/// How many certificates one gateway may be known by: the present one, and those that it is about
/// to replace.
const IDENTITIES_MAX: usize = 3;

/// A gateway of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// What its site systems may be addressed as.
    pub hosts: Vec<String>,
    /// What its site systems may be.
    pub roles: Vec<String>,
    /// When it joined.
    pub joined: Timestamp,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
    /// Why.
    pub revoke_reason: Option<String>,
    /// The version of the bundle that it has, as it says; 0 for none.
    pub bundle: u64,
    /// When it last asked for one.
    pub seen: Option<Timestamp>,
}

/// A join token that is made.
#[derive(Clone, Debug)]
pub struct Joining<'a> {
    /// What it is known by.
    pub fingerprint: &'a str,
    /// The gateway that it is for.
    pub name: &'a str,
    /// What its site systems may be addressed as.
    pub hosts: &'a [String],
    /// What its site systems may be.
    pub roles: &'a [String],
    /// Until when it can be used.
    pub expires: Timestamp,
}

/// A certificate by which a gateway shows who it is.
#[derive(Clone, Copy, Debug)]
pub struct GatewayIdentity<'a> {
    /// Its SHA-256 thumbprint, as RFC 8705 has it.
    pub thumbprint: &'a str,
    /// Until when it is taken.
    pub expires: Timestamp,
}

/// Why a gateway does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No such join token was made.
    #[error("the join token is not one of this site's")]
    Unknown,
    /// It was used.
    #[error("the join token has been used")]
    Used,
    /// Its time is over.
    #[error("the join token has expired")]
    Expired,
    /// It is for a gateway of another name.
    #[error("the join token is for another gateway")]
    Name,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Keep a join token. One of the same name that was not used is good for nothing any more.
    ///
    /// # Errors
    /// What the database answers; the token is good for nothing then.
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

    /// Let a gateway in by a join token, which is used up by that. A gateway of that name that was
    /// there before has only what this token says; what it was known by is forgotten.
    ///
    /// # Errors
    /// Why not. A gateway whose answer was lost may ask again with the same certificate.
    pub async fn join(
        &self,
        fingerprint: &str,
        name: &str,
        identity: GatewayIdentity<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<Gateway, JoinError> {
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
        // What was there before under this name is not known to be the same machine.
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

    /// The gateway that a certificate is of, if its time is not over; also one that was revoked.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn gateway_by_identity(
        &self,
        thumbprint: &str,
        now: Timestamp,
    ) -> Result<Option<Gateway>, StoreError> {
        let sql = "SELECT g.name, g.hosts, g.roles, g.joined, g.revoked, g.revoke_reason, \
                   g.bundle, g.seen FROM gateways g \
                   JOIN gateway_identities i ON i.gateway = g.name \
                   WHERE i.thumbprint = $1 AND i.expires > $2";
        let rows = self.db.rows(sql, &[thumbprint.into(), seconds(now).into()]).await?;
        rows.first().map(read).transpose()
    }

    /// Have a gateway known by one more certificate; the oldest is forgotten.
    ///
    /// # Errors
    /// What the database answers.
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

    /// Take note of the bundle that a gateway has.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn gateway_has(
        &self,
        gateway: &str,
        bundle: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE gateways SET bundle = $2, seen = $3 WHERE name = $1";
        let bundle = i64::try_from(bundle).unwrap_or(i64::MAX);
        tx.run(sql, &[gateway.into(), bundle.into(), seconds(now).into()]).await?;
        tx.commit().await
    }

    /// All gateways, in order of their names.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn gateways(&self) -> Result<Vec<Gateway>, StoreError> {
        let sql = "SELECT g.name, g.hosts, g.roles, g.joined, g.revoked, g.revoke_reason, \
                   g.bundle, g.seen FROM gateways g ORDER BY g.name";
        self.db.rows(sql, &[]).await?.iter().map(read).collect()
    }

    /// Put a gateway out of the site: it is told nothing any more, and its certificates are
    /// blocked. `None` if there is none of that name, `false` if that was done before.
    ///
    /// # Errors
    /// What the database answers; the gateway is in then.
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

    /// The names of the gateways that were revoked, in order.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn revoked_gateways(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM gateways WHERE revoked IS NOT NULL ORDER BY name";
        self.db.rows(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
    }
}

/// Put a gateway out of the site, within a transaction: `None` if there is none of that name, `false`
/// if it was out already.
pub(super) async fn revoke(
    tx: &mut Tx,
    name: &str,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
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

/// Join tokens that were made for a name and not used.
async fn forget_tokens(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM join_tokens WHERE name = $1 AND used IS NULL";
    tx.run(sql, &[name.into()]).await.map(drop)
}

async fn gateway_of(tx: &mut Tx, thumbprint: &str) -> Result<Option<Gateway>, StoreError> {
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

fn read(row: &Row) -> Result<Gateway, StoreError> {
    let bundle: i64 = row.get(6)?;
    Ok(Gateway {
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

pub(super) fn words(text: String) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
