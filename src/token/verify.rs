//! From a token's bytes to verified facts: the issuer by `iss`, its key by name, the algorithm by
//! the key, the signature, and only then what the token says.
//!
//! Fetches nothing, trusts no key that a token brings, and tells clients nothing about keys.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::bearer::BearerToken;
use super::claims::{Claims, Header};
use super::identity::Identity;
use super::issuer::Issuer;
use super::keys::{KeySet, NoKey};
use super::origin::{ORIGINS_MAX, Origin};
use super::refusal::{Missed, Refusal};
use super::text::base64url;
use crate::clock::span;
use crate::denial::Denial;
use crate::live::Live;

/// An issuer and its keys of the moment. A key never verifies for another issuer.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The terms. One policy is one `Arc`: facts read under another are not reused.
    pub issuer: Arc<Issuer>,
    /// The keys, replaced when their files change.
    pub keys: Live<KeySet>,
}

/// Facts about a token whose signature is verified. Whether it is accepted now is judged by
/// [`Verified::admit`] on every request.
#[derive(Debug)]
pub struct Verified {
    issuer: Arc<Issuer>,
    iss: String,
    keys: Arc<KeySet>,
    kid: Option<String>,
    audiences: Vec<String>,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    identity: Identity,
}

/// Verify a token against the issuers that are trusted. The first that accepts its `iss` is the
/// only one whose keys are tried.
///
/// # Errors
/// The refusal, for the client and for the log. An unknown key and a wrong signature are the same
/// denial. Tokens that [`Verified::admit`] would not admit are refused as well.
pub fn verify(
    token: &BearerToken<'_>,
    trusted: &[Trusted],
    now: Timestamp,
) -> Result<Verified, Refusal> {
    verify_among(token, trusted.iter(), now)
}

/// As [`verify`], for a selection of issuers.
pub(super) fn verify_among<'a>(
    token: &BearerToken<'_>,
    mut trusted: impl Iterator<Item = &'a Trusted>,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let header = Header::parse(token.header())?;
    judge(token, &header, &mut trusted, now).map_err(|refusal| refusal.naming(header.key_name()))
}

fn judge<'a>(
    token: &BearerToken<'_>,
    header: &Header,
    trusted: &mut impl Iterator<Item = &'a Trusted>,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let claims = Claims::parse(token.payload())?;
    let signature = base64url(token.signature())
        .ok_or(Refusal::new(Denial::TokenMalformed, "the signature is not strict base64url"))?;
    let Some(Trusted { issuer, keys }) = trusted.find(|t| t.issuer.accepts(&claims.iss)) else {
        return Err(Refusal::quoting(Denial::TokenIssuer, "iss is not trusted:", &claims.iss));
    };
    // Before the keys: if they are replaced in between, they only seem older than they are.
    let generation = keys.generation();
    let keys = keys.load();
    let tenant = issuer.tenant().map(|t| t.to_string());
    let key = keys.find(header, &claims.iss, tenant.as_deref()).map_err(|none| match none {
        NoKey::Unfit(detail) => Refusal::new(Denial::TokenSignature, detail),
        NoKey::Algorithm(detail) => Refusal::new(Denial::TokenAlgorithm, detail),
        NoKey::Unknown(detail) => Refusal {
            missed: Some(Missed { issuer: issuer.name.clone(), generation }),
            ..Refusal::new(Denial::TokenSignature, detail)
        },
    })?;
    if !key.verifies(token.signing_input(), &signature) {
        return Err(Refusal::new(Denial::TokenSignature, "the signature is not its key's"));
    }
    let verified = Verified {
        identity: Identity::read(issuer, header, &claims)?,
        issuer: issuer.clone(),
        iss: claims.iss.clone(),
        kid: key.kid().or(key.x5t()).map(str::to_owned),
        keys,
        audiences: claims.audiences,
        exp: claims.exp,
        nbf: claims.nbf,
        iat: claims.iat,
    };
    match verified.admit(now) {
        Ok(_) => Ok(verified),
        Err(denial) => Err(verified.refused(denial, now)),
    }
}

impl Verified {
    /// The refusal of a token whose signature is good, and by how much its time is missed: by that a
    /// clock that is wrong is told from a token that is old.
    pub(super) fn refused(&self, denial: Denial, now: Timestamp) -> Refusal {
        let good = "its signature is good";
        let away = |then: i64| span(then.abs_diff(now.as_second()));
        let detail = match denial {
            Denial::TokenExpired => format!("{good}; it ended {} ago", away(self.exp)),
            Denial::TokenNotYetValid => {
                let begins = self.nbf.into_iter().chain(self.iat).max().unwrap_or_default();
                format!("{good}; it begins in {}", away(begins))
            }
            _ => return Refusal::new(denial, good),
        };
        Refusal { detail: Cow::Owned(detail), ..Refusal::new(denial, good) }
    }

    /// Whether the token is accepted at this moment, and whose it is then.
    ///
    /// The leeway `l` widens each bound: it is accepted from `nbf - l` on and before `exp + l`
    /// (RFC 7519 §4.1.4: "on or after" is too late). Its life, `exp` less `iat` (else `nbf`), and
    /// what is left of it may not exceed the issuer's maximum by more than `l`.
    ///
    /// # Errors
    /// [`Denial::TokenExpired`], [`Denial::TokenNotYetValid`], [`Denial::TokenLifetime`] or
    /// [`Denial::TokenAudience`], in this order.
    pub fn admit(&self, now: Timestamp) -> Result<&Identity, Denial> {
        let (now, leeway) = (now.as_second(), self.issuer.leeway_s.max(0));
        if now >= self.exp.saturating_add(leeway) {
            return Err(Denial::TokenExpired);
        }
        if self.nbf.is_some_and(|nbf| now < nbf.saturating_sub(leeway)) {
            return Err(Denial::TokenNotYetValid);
        }
        if let Some(max) = self.issuer.lifetime_max_s(self.identity.purpose) {
            let begin = self.iat.or(self.nbf).unwrap_or(now).min(now);
            if self.exp.saturating_sub(begin) > max.saturating_add(leeway) {
                return Err(Denial::TokenLifetime);
            }
        }
        match self.audiences.iter().any(|aud| self.issuer.audiences.contains(aud)) {
            true => Ok(&self.identity),
            false => Err(Denial::TokenAudience),
        }
    }

    /// Whose token it is; only [`Verified::admit`] says whether it counts.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The issuer whose key verified it.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Its `iss`: one of those that its issuer accepts.
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// The name of the key that verified it, as its key file has it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The values of `aud`.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The end of the token's life, in seconds after 1970, without leeway.
    pub fn exp(&self) -> i64 {
        self.exp
    }

    /// The beginning of the token's life, in seconds after 1970, without leeway.
    pub fn nbf(&self) -> Option<i64> {
        self.nbf
    }

    /// When the token was issued, in seconds after 1970.
    pub fn iat(&self) -> Option<i64> {
        self.iat
    }

    /// When the token was issued as far as it says: `iat`, else `nbf`.
    pub fn issued(&self) -> Option<i64> {
        self.iat.or(self.nbf)
    }

    /// The origins of a token that is made from this one: its own, and itself.
    ///
    /// `None` if there would be more than [`ORIGINS_MAX`], or one that cannot be written.
    pub fn origins_of_next(&self) -> Option<Vec<Origin>> {
        let who = &self.identity;
        let own = Origin {
            iss: self.iss.clone(),
            token_id: who.token_id.clone(),
            issued: self.issued(),
            device: who.device.clone(),
            user: who.user.clone(),
        };
        let origins: Vec<Origin> = who.origins.iter().cloned().chain([own]).collect();
        let fits = origins.len() <= ORIGINS_MAX && origins.iter().all(Origin::is_well_formed);
        fits.then_some(origins)
    }

    /// Whether one of these is the very policy, with the very keys, that verified the token. Both
    /// are held by this value, so that their addresses cannot be another's meanwhile.
    pub(super) fn stands(&self, trusted: &[Trusted]) -> bool {
        let policy = trusted.iter().find(|t| Arc::ptr_eq(&t.issuer, &self.issuer));
        policy.is_some_and(|t| t.keys.peek(|keys| std::ptr::eq(keys, &*self.keys)))
    }
}
