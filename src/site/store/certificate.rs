//! Role certificates that the site has issued to gateways on other hosts.
//!
//! Only certificates: the keys never leave the gateways.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::db::{Arg, DbRow, Tx};
use super::{Store, StoreError, seconds, words};
use crate::clock::second;

/// A role certificate of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleCertificate {
    /// The SHA-256 of the certificate, hexadecimal digits.
    pub thumbprint: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The gateway.
    pub gateway: String,
    /// The site system that it is for.
    pub site_system: String,
    /// Its host names.
    pub hosts: Vec<String>,
    /// The start of its validity.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// The time of its block, if it is blocked.
    pub blocked: Option<Timestamp>,
}

impl Store {
    /// Records a certificate before it is sent to a gateway. `false` if the gateway has been
    /// revoked.
    ///
    /// # Errors
    /// The database's error.
    pub async fn role_certificate(
        &self,
        issued: &RoleCertificate,
        actor: &str,
    ) -> Result<bool, StoreError> {
        let hosts = issued.hosts.join(" ");
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [issued.gateway.as_str()]).await?;
        let sql = "SELECT 1 FROM gateways WHERE name = $1 AND revoked IS NULL";
        if !tx.any(sql, &[(&issued.gateway).into()]).await? {
            return Ok(false);
        }
        let sql = "INSERT INTO role_certificates \
                   (thumbprint, certificate, gateway, site_system, hosts, issued, expires) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let args: [Arg<'_>; 7] = [
            (&issued.thumbprint).into(),
            (&issued.certificate).into(),
            (&issued.gateway).into(),
            (&issued.site_system).into(),
            (&hosts).into(),
            seconds(issued.issued).into(),
            seconds(issued.expires).into(),
        ];
        tx.run(sql, &args).await?;
        let detail = format!("for {}: {hosts}; {}", issued.site_system, issued.thumbprint);
        let subject = &issued.gateway;
        audit::write(&mut tx, Action::CertificateIssued, subject, &detail, actor, issued.issued)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Blocks a role certificate of a gateway, by its thumbprint; the gateway then requests
    /// another. `false` if no unblocked certificate has it.
    ///
    /// # Errors
    /// The database's error; the certificate is then not blocked.
    pub async fn block_role_certificate(
        &self,
        thumbprint: &str,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE role_certificates SET blocked = $2 \
                   WHERE thumbprint = $1 AND blocked IS NULL";
        let changed = tx.run(sql, &[thumbprint.into(), seconds(now).into()]).await? > 0;
        if changed {
            audit::write(&mut tx, Action::CertificateBlocked, thumbprint, "", actor, now).await?;
            self.commit_and_tell(tx).await?;
        }
        Ok(changed)
    }

    /// The unexpired role certificates of gateways, by time of issue.
    ///
    /// # Errors
    /// The database's error.
    pub async fn role_certificates(
        &self,
        now: Timestamp,
    ) -> Result<Vec<RoleCertificate>, StoreError> {
        let sql = "SELECT thumbprint, certificate, gateway, site_system, hosts, issued, expires, \
                   blocked FROM role_certificates WHERE expires > $1 ORDER BY issued, thumbprint";
        let rows = self.db.rows(sql, &[seconds(now).into()]).await?;
        rows.iter().map(read_certificate).collect()
    }
}

impl Store {
    /// The thumbprints of the blocked role certificates that have not expired, sorted.
    ///
    /// # Errors
    /// The database's error.
    pub async fn blocked_role_certificates(
        &self,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT thumbprint FROM role_certificates \
                   WHERE blocked IS NOT NULL AND expires > $1 ORDER BY thumbprint";
        self.db.rows(sql, &[seconds(now).into()]).await?.iter().map(|row| row.get(0)).collect()
    }
}

/// Blocks all certificates of a gateway.
pub(super) async fn block_certificates(
    tx: &mut Tx,
    gateway: &str,
    at: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE role_certificates SET blocked = $2 \
               WHERE gateway = $1 AND blocked IS NULL AND expires > $2";
    tx.run(sql, &[gateway.into(), at.into()]).await.map(drop)
}

fn read_certificate(row: &DbRow) -> Result<RoleCertificate, StoreError> {
    Ok(RoleCertificate {
        thumbprint: row.get(0)?,
        certificate: row.get(1)?,
        gateway: row.get(2)?,
        site_system: row.get(3)?,
        hosts: words(row.get(4)?),
        issued: second(row.get(5)?),
        expires: second(row.get(6)?),
        blocked: row.get::<Option<i64>>(7)?.map(second),
    })
}
