//! Issuing: what must hold before a token is handed out, and its record.
//!
//! Whoever issues asks here last; a token whose grant has not returned must not leave the process.

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

/// A token that is about to be issued.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// Its own id.
    pub id: Uuid,
    /// Its `iss`.
    pub issuer: &'a str,
    /// What it is for.
    pub purpose: Purpose,
    /// The device it speaks for, which must be known and approved.
    pub device: Option<&'a str>,
    /// The user it speaks for.
    pub user: Option<&'a str>,
    /// For whom it is meant.
    pub audience: &'a str,
    /// When it is issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The thumbprint of the key or certificate that it is bound to.
    pub bound_to: Option<&'a str>,
    /// What it is limited to.
    pub scope: Option<&'a str>,
    /// How often it may be used, if that is limited.
    pub uses_max: Option<u32>,
    /// The assertion that it is issued for, which may be used once.
    pub proof: Option<Proof<'a>>,
    /// The token that it is exchanged for.
    pub subject_token: Option<TokenRef<'a>>,
    /// Whether it renews the device's token.
    pub renews: bool,
}

/// An assertion that may be used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// Who made it.
    pub client: &'a str,
    /// Its own id. Kept as a fingerprint.
    pub jti: &'a str,
    /// When it is over; it is remembered until then.
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
    /// There is no such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// The token that was to be exchanged is blocked.
    #[error("the token to exchange is blocked")]
    SubjectBlocked,
    /// The token that was to be exchanged has been used as often as it may be.
    #[error("the token to exchange is used up")]
    SubjectUsedUp,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Use an assertion for something that is recorded elsewhere. `false` if it was used before.
    ///
    /// # Errors
    /// What the database answers; it may be used again then.
    pub async fn use_proof(&self, proof: &Proof<'_>) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let first = use_proof(&mut tx, proof).await?;
        tx.commit().await?;
        Ok(first)
    }

    /// Judge and record a token, before it is handed out. `actor` is whoever gets it.
    ///
    /// # Errors
    /// Why it may not be issued. Nothing has changed then: an assertion may be used again.
    pub async fn grant(&self, grant: &Grant<'_>, actor: &str) -> Result<(), GrantError> {
        self.record_grant(grant, actor, false).await
    }

    /// As [`Store::grant`], for a token that the operator asks for: its device need not be known,
    /// only not blocked.
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

/// Remember an assertion; `false` if it is remembered already.
async fn use_proof(tx: &mut Tx, proof: &Proof<'_>) -> Result<bool, StoreError> {
    let mut hash = digest::Context::new(&digest::SHA256);
    // With its length, so that no other client and id make the same bytes.
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
