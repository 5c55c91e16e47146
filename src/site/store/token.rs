//! Records of tokens: issue and uses.
//!
//! Never holds a token. For tokens of other issuers, only the uses are recorded.

use jiff::Timestamp;
use uuid::Uuid;

use super::db::{Arg, DbRow, Tx};
use super::device::{name, normal_id};
use super::{Store, StoreError, seconds};
use crate::clock::second;
use crate::purpose::Purpose;

/// A client's token, of any issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRef<'a> {
    /// Its `iss`.
    pub issuer: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Its time of issue, if the token has one. Otherwise the site's own record is used.
    pub issued: Option<Timestamp>,
}

/// The record of a token that the site issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// Its id.
    pub id: Uuid,
    /// Its `iss`.
    pub issuer: String,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its device.
    pub device: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Its `aud`.
    pub audience: String,
    /// The time of issue, in seconds.
    pub issued: Timestamp,
    /// The end of its validity, in seconds.
    pub expires: Timestamp,
    /// The thumbprint of the key or certificate that it is bound to.
    pub bound_to: Option<String>,
    /// Its scope.
    pub scope: Option<String>,
    /// The largest number of uses, if limited.
    pub uses_max: Option<u32>,
    /// The number of uses.
    pub uses: u32,
    /// The issuer and the id of the token that it was exchanged for.
    pub subject_token: Option<(String, String)>,
    /// Whether it is blocked by its id.
    pub blocked: bool,
}

/// Selects tokens. The default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenFilter<'a> {
    /// Of this device.
    pub device: Option<&'a str>,
    /// For this purpose.
    pub purpose: Option<Purpose>,
    /// Not expired at this time.
    pub live_at: Option<Timestamp>,
}

macro_rules! tokens_where {
    ($condition:literal) => {
        concat!(
            "SELECT t.id, t.issuer, t.purpose, t.device, t.person, t.audience, t.issued, \
             t.expires, t.bound_to, t.scope, t.uses_max, COALESCE(u.used, 0), t.subject_issuer, \
             t.subject, EXISTS (SELECT 1 FROM blocks b WHERE b.kind = 'token' \
             AND b.name = t.id AND b.issuer = t.issuer) \
             FROM tokens t LEFT JOIN token_uses u ON u.issuer = t.issuer AND u.id = t.id WHERE ",
            $condition
        )
    };
}

/// A page of the tokens of one device or of all. A condition that is optional by `OR` cannot use an
/// index.
macro_rules! tokens_page {
    ($of:literal) => {
        concat!(
            tokens_where!($of),
            " AND ($2 IS NULL OR t.purpose = $2) AND ($3 IS NULL OR t.expires > $3) \
             AND ($4 IS NULL OR (t.issued, t.id) < \
             (SELECT a.issued, a.id FROM tokens a WHERE a.id = $4)) \
             ORDER BY t.issued DESC, t.id DESC LIMIT $5"
        )
    };
}

impl Store {
    /// The record of a token that the site issued.
    ///
    /// # Errors
    /// The database's error.
    pub async fn token(&self, id: Uuid) -> Result<Option<IssuedToken>, StoreError> {
        let id = id.hyphenated().to_string();
        let rows = self.db.rows(tokens_where!("t.id = $1"), &[(&id).into()]).await?;
        rows.first().map(read).transpose()
    }

    /// Tokens that the site issued, the latest first, at most `limit`, after the token `after`.
    ///
    /// # Errors
    /// The database's error.
    pub async fn tokens(
        &self,
        filter: TokenFilter<'_>,
        limit: u32,
        after: Option<Uuid>,
    ) -> Result<Vec<IssuedToken>, StoreError> {
        let sql = match filter.device {
            Some(_) => tokens_page!("t.device = $1"),
            None => tokens_page!("CAST($1 AS TEXT) IS NULL"),
        };
        let device = filter.device.map(normal_id);
        let after = after.map(|id| id.hyphenated().to_string());
        let args: [Arg<'_>; 5] = [
            device.as_deref().into(),
            filter.purpose.map(Purpose::as_str).into(),
            filter.live_at.map(seconds).into(),
            after.as_deref().into(),
            i64::from(limit).into(),
        ];
        self.db.rows(sql, &args).await?.iter().map(read).collect()
    }
}

fn read(row: &DbRow) -> Result<IssuedToken, StoreError> {
    let id: String = row.get(0)?;
    let word: String = row.get(2)?;
    let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.as_str() == word);
    let subject: (Option<String>, Option<String>) = (row.get(12)?, row.get(13)?);
    let count = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
    Ok(IssuedToken {
        id: id.parse().map_err(|_| StoreError::Content(format!("token id '{id}'")))?,
        issuer: row.get(1)?,
        purpose: purpose.ok_or_else(|| StoreError::Content(format!("purpose '{word}'")))?,
        device: row.get(3)?,
        user: row.get(4)?,
        audience: row.get(5)?,
        issued: second(row.get(6)?),
        expires: second(row.get(7)?),
        bound_to: row.get(8)?,
        scope: row.get(9)?,
        uses_max: row.get::<Option<i64>>(10)?.map(count),
        uses: count(row.get(11)?),
        subject_token: subject.0.zip(subject.1),
        blocked: row.get(14)?,
    })
}

/// Whether a token is blocked, by its id or by its time of issue.
pub(super) async fn is_blocked(tx: &mut Tx, token: &TokenRef<'_>) -> Result<bool, StoreError> {
    // Two lookups by key instead of a scan of all blocks. A block by time has no name.
    let sql = "SELECT 1 FROM blocks WHERE kind = 'token' AND name = $2 AND issuer = $1 \
               UNION ALL SELECT 1 FROM blocks \
               WHERE kind = 'issued-before' AND name = '' AND issuer = $1 AND before > \
               COALESCE($3, (SELECT t.issued FROM tokens t WHERE t.id = $2 AND t.issuer = $1))";
    let issued = token.issued.map(seconds);
    tx.any(sql, &[token.issuer.into(), (&name(token.id)).into(), issued.into()]).await
}

/// The limit of a token's uses, from its record or, without one, from the caller; and the number of
/// uses.
#[derive(Clone, Copy)]
pub(super) struct TokenUses {
    used: i64,
    max: i64,
}

impl TokenUses {
    pub(super) fn is_limited(self) -> bool {
        self.max < i64::MAX
    }
}

pub(super) async fn uses(
    tx: &mut Tx,
    token: &TokenRef<'_>,
    given: Option<u32>,
) -> Result<TokenUses, StoreError> {
    let sql = "SELECT (SELECT t.uses_max FROM tokens t WHERE t.id = $2 AND t.issuer = $1), \
               (SELECT u.used FROM token_uses u WHERE u.id = $2 AND u.issuer = $1), \
               EXISTS (SELECT 1 FROM tokens t WHERE t.id = $2 AND t.issuer = $1)";
    let row = tx.row(sql, &[token.issuer.into(), (&name(token.id)).into()]).await?;
    let (max, used, is_recorded): (Option<i64>, Option<i64>, bool) = match row {
        Some(row) => (row.get(0)?, row.get(1)?, row.get(2)?),
        None => (None, None, false),
    };
    let max = max.or(given.filter(|_| !is_recorded).map(i64::from)).unwrap_or(i64::MAX);
    Ok(TokenUses { used: used.unwrap_or(0), max })
}

/// Counts one use; `false` if none is left. Other uses of the token wait until the end of the
/// transaction, so that two cannot both take the last one.
pub(super) async fn use_once(
    tx: &mut Tx,
    token: &TokenRef<'_>,
    uses: TokenUses,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if uses.used >= uses.max {
        return Ok(false);
    }
    let sql = "INSERT INTO token_uses (issuer, id, used, last) VALUES ($1, $2, 1, $3) \
               ON CONFLICT (issuer, id) DO UPDATE SET used = token_uses.used + 1, last = $3 \
               WHERE token_uses.used < $4";
    let name = name(token.id);
    let args = [token.issuer.into(), (&name).into(), seconds(now).into(), uses.max.into()];
    Ok(tx.run(sql, &args).await? > 0)
}
