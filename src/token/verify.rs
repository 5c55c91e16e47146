//! Verifies a token: selects the issuer by `iss`, its key by name, checks the algorithm and the
//! signature, and only then reads the identity.
//!
//! Fetches nothing, trusts no key in a token, and reveals nothing about keys to clients.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::bearer::BearerToken;
use super::claims::{Claims, Header};
use super::identity::Identity;
use super::issuer::Issuer;
use super::keys::{KeySet, NoKey};
use super::origin::{ORIGINS_MAX, TokenOrigin};
use super::refusal::{Missed, Refusal};
use super::text::base64url;
use crate::clock::span;
use crate::denial::Denial;
use crate::live::Live;

/// An issuer and its current keys. A key never verifies for another issuer.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The policy. One policy is one `Arc`: tokens verified under another policy are verified
    /// again.
    pub issuer: Arc<Issuer>,
    /// The keys, replaced when their files change.
    pub keys: Live<KeySet>,
}

/// The claims of a token with a verified signature. [`Verified::admit`] decides on every request
/// whether it is accepted now.
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

/// Verifies a token with the keys of the first trusted issuer that accepts its `iss`, and no other.
///
/// # Errors
/// The refusal, for the client and for the log. An unknown key and a wrong signature are the same
/// denial. Tokens that [`Verified::admit`] refuses are refused here, too.
pub fn verify(
    token: &BearerToken<'_>,
    trusted: &[Trusted],
    now: Timestamp,
) -> Result<Verified, Refusal> {
    verify_among(token, trusted.iter(), now)
}

/// Like [`verify`], for a selection of issuers.
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
    // Read before the keys: if they are replaced in between, they only seem older than they are.
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
    /// The refusal of a token with a valid signature. The detail has the time by which it is too
    /// old or too early, so that an operator can distinguish a wrong clock from an old token.
    pub(super) fn refused(&self, denial: Denial, now: Timestamp) -> Refusal {
        let good = "its signature is valid";
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

    /// Checks that the token is accepted now, and returns its identity.
    ///
    /// The leeway `l` widens each bound: it is accepted from `nbf - l` on and before `exp + l` (RFC
    /// 7519 §4.1.4: "on or after" is too late). Its lifetime, `exp` minus `iat` (else `nbf`), and
    /// its remaining lifetime may not exceed the issuer's maximum by more than `l`.
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
        if self.audiences.iter().any(|aud| self.issuer.audiences.contains(aud)) {
            Ok(&self.identity)
        } else {
            Err(Denial::TokenAudience)
        }
    }

    /// The token's identity; only [`Verified::admit`] decides whether it is accepted.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The issuer that verified it.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Its `iss`: one of those that its issuer accepts.
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// The name of the key that verified it, from its key file.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The values of `aud`.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The end of its validity, in seconds after 1970, without leeway.
    pub fn exp(&self) -> i64 {
        self.exp
    }

    /// The start of its validity, in seconds after 1970, without leeway.
    pub fn nbf(&self) -> Option<i64> {
        self.nbf
    }

    /// The time of issue, in seconds after 1970.
    pub fn iat(&self) -> Option<i64> {
        self.iat
    }

    /// The best known time of issue: `iat`, else `nbf`.
    pub fn issued(&self) -> Option<i64> {
        self.iat.or(self.nbf)
    }

    /// The origins of a token made from this one: this token's own origins, and the token itself.
    ///
    /// `None` if there would be more than [`ORIGINS_MAX`], or one that cannot be written into a
    /// token.
    pub fn origins_of_next(&self) -> Option<Vec<TokenOrigin>> {
        let who = &self.identity;
        let own = TokenOrigin {
            iss: self.iss.clone(),
            token_id: who.token_id.clone(),
            issued: self.issued(),
            device: who.device.clone(),
            user: who.user.clone(),
        };
        let origins: Vec<TokenOrigin> = who.origins.iter().cloned().chain([own]).collect();
        let fits = origins.len() <= ORIGINS_MAX && origins.iter().all(TokenOrigin::is_well_formed);
        fits.then_some(origins)
    }

    /// Whether the policy and the keys that verified the token are still among these. Compared by
    /// address: this value holds both, so their addresses cannot be reused.
    pub(super) fn stands(&self, trusted: &[Trusted]) -> bool {
        let policy = trusted.iter().find(|t| Arc::ptr_eq(&t.issuer, &self.issuer));
        policy.is_some_and(|t| t.keys.peek(|keys| std::ptr::eq(keys, &*self.keys)))
    }
}
