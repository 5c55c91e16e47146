//! Issues tokens: checks the preconditions and records the token.
//!
//! The last step before a token is returned; a token must not leave the process before its grant
//! has succeeded.

use aws_lc_rs::digest;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::{self, Action};
use super::block;
use super::db::{Arg, Tx};
use super::device::{name, normal_id};
use super::token::{self, TokenRef};
use super::{Store, StoreError, seconds, seconds_up};
use crate::clock::second;
use crate::purpose::Purpose;

/// A token to be issued.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its `iss`.
    pub issuer: &'a str,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its device, which must be known and approved.
    pub device: Option<&'a str>,
    /// Its user.
    pub user: Option<&'a str>,
    /// Its `aud`.
    pub audience: &'a str,
    /// The time of issue.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// The thumbprint of the key or certificate that it is bound to.
    pub bound_to: Option<&'a str>,
    /// Its scope.
    pub scope: Option<&'a str>,
    /// The largest number of uses, if limited.
    pub uses_max: Option<u32>,
    /// The assertion in the request, valid for one use.
    pub proof: Option<Proof<'a>>,
    /// The token that is exchanged for it.
    pub subject_token: Option<TokenRef<'a>>,
    /// Whether it renews the device's token.
    pub renews: bool,
}

/// An assertion for one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The client that made it.
    pub client: &'a str,
    /// Its id, stored as a fingerprint.
    pub jti: &'a str,
    /// The end of its validity; it is stored until then.
    pub until: Timestamp,
}

/// Why a token may not be issued.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The assertion has been used.
    #[error("the assertion has been used")]
    Replayed,
    /// The device or the user is blocked.
    #[error("the device or the user is blocked")]
    Blocked,
    /// The device waits for approval.
    #[error("the device waits for approval")]
    NotApproved,
    /// No such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// The exchanged token is blocked.
    #[error("the token to exchange is blocked")]
    SubjectBlocked,
    /// The exchanged token has no uses left.
    #[error("the token to exchange is used up")]
    SubjectUsedUp,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Records the use of an assertion for an operation outside this module. `false` if it was
    /// already used.
    ///
    /// # Errors
    /// The database's error; the assertion may then be used again.
    pub async fn use_proof(&self, proof: &Proof<'_>) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let first = use_proof(&mut tx, proof).await?;
        tx.commit().await?;
        Ok(first)
    }

    /// Checks and records a token, before it is returned to the client. `actor` is the client.
    ///
    /// # Errors
    /// Why it may not be issued. Nothing has then changed: an assertion may be used again.
    pub async fn grant(&self, grant: &Grant<'_>, actor: &str) -> Result<(), GrantError> {
        self.record_grant(grant, actor, false).await
    }

    /// Like [`Store::grant`], for a token that the operator requests: its device need not be known,
    /// but must not be blocked.
    ///
    /// # Errors
    /// As [`Store::grant`].
    pub async fn grant_by_operator(
        &self,
        grant: &Grant<'_>,
        actor: &str,
    ) -> Result<(), GrantError> {
        self.record_grant(grant, actor, true).await
    }

    async fn record_grant(
        &self,
        grant: &Grant<'_>,
        actor: &str,
        by_operator: bool,
    ) -> Result<(), GrantError> {
        let device = grant.device.map(normal_id);
        let device = device.as_deref();
        let mut tx = self.db.begin().await?;
        if let Some(proof) = &grant.proof
            && !use_proof(&mut tx, proof).await?
        {
            return Err(GrantError::Replayed);
        }
        if let Some(device) = device {
            judge_device(&mut tx, device, by_operator).await?;
        }
        if let Some(user) = grant.user
            && block::user_is_blocked(&mut tx, user).await?
        {
            return Err(GrantError::Blocked);
        }
        if let (Some(device), true) = (device, grant.renews) {
            let sql = "UPDATE devices SET renewed = $2 WHERE id = $1";
            tx.run(sql, &[device.into(), seconds(grant.issued).into()]).await?;
        }
        if let Some(subject) = &grant.subject_token {
            use_subject(&mut tx, subject, grant.issued).await?;
        }
        insert(&mut tx, grant, device).await?;
        let id = grant.id.hyphenated().to_string();
        audit::write(&mut tx, Action::Issued, &id, &detail(grant, device), actor, grant.issued)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn judge_device(tx: &mut Tx, id: &str, by_operator: bool) -> Result<(), GrantError> {
    if block::device_is_blocked(tx, id).await? {
        return Err(GrantError::Blocked);
    }
    if by_operator {
        return Ok(());
    }
    let row = tx.row("SELECT approved FROM devices WHERE id = $1", &[id.into()]).await?;
    match row.map(|row| row.get::<bool>(0)).transpose()? {
        None => Err(GrantError::UnknownDevice),
        Some(false) => Err(GrantError::NotApproved),
        Some(true) => Ok(()),
    }
}

async fn use_subject(
    tx: &mut Tx,
    subject: &TokenRef<'_>,
    now: Timestamp,
) -> Result<(), GrantError> {
    if token::is_blocked(tx, subject).await? {
        return Err(GrantError::SubjectBlocked);
    }
    let uses = token::uses(tx, subject, None).await?;
    if uses.is_limited() && !token::use_once(tx, subject, uses, now).await? {
        return Err(GrantError::SubjectUsedUp);
    }
    Ok(())
}

/// Records an assertion; `false` if it is already recorded.
async fn use_proof(tx: &mut Tx, proof: &Proof<'_>) -> Result<bool, StoreError> {
    let mut hash = digest::Context::new(&digest::SHA256);
    // Includes the length, so that no other client and id give the same bytes.
    hash.update(&(proof.client.len() as u64).to_be_bytes());
    hash.update(proof.client.as_bytes());
    hash.update(proof.jti.as_bytes());
    let hash: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = "INSERT INTO proofs (hash, until) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    Ok(tx.run(sql, &[(&hash).into(), seconds_up(proof.until).into()]).await? > 0)
}

async fn insert(tx: &mut Tx, grant: &Grant<'_>, device: Option<&str>) -> Result<(), StoreError> {
    let sql = "INSERT INTO tokens (id, issuer, purpose, device, person, audience, issued, expires, \
               bound_to, scope, uses_max, subject_issuer, subject) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let id = grant.id.hyphenated().to_string();
    let subject = grant.subject_token.map(|token| (token.issuer, name(token.id)));
    let subject = subject.as_ref().map(|(issuer, id)| (*issuer, id.as_str())).unzip();
    let args: [Arg<'_>; 13] = [
        (&id).into(),
        grant.issuer.into(),
        grant.purpose.as_str().into(),
        device.into(),
        grant.user.into(),
        grant.audience.into(),
        seconds(grant.issued).into(),
        seconds_up(grant.expires).into(),
        grant.bound_to.into(),
        grant.scope.into(),
        grant.uses_max.map(i64::from).into(),
        subject.0.into(),
        subject.1.into(),
    ];
    tx.run(sql, &args).await?;
    Ok(())
}

fn detail(grant: &Grant<'_>, device: Option<&str>) -> String {
    let until = second(seconds_up(grant.expires));
    let mut detail = format!("{} until {until}", grant.purpose);
    for (word, value) in [("device", device), ("user", grant.user), ("bound to", grant.bound_to)] {
        if let Some(value) = value {
            detail.push_str(&format!(", {word} {value}"));
        }
    }
    detail
}
