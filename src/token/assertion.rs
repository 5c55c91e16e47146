//! Client assertions (`private_key_jwt`): a JWT by which a client proves possession of its key to
//! the token service (RFC 7523 §3), valid for one use.
//!
//! Parses and verifies. The store detects replays.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::bearer::BearerToken;
use super::claims::{Claims, Header};
use super::client_key::ClientKey;
use super::json::Json;
use super::mint::{MintError, TokenSigner, segment};
use super::text::{base64url, is_identity_text, to_base64url};
use crate::grant_denial::GrantDenial;

/// Allowed clock skew, in seconds: devices keep worse time than servers.
const LEEWAY_S: i64 = 300;
/// The longest lifetime, in seconds: the default of common libraries.
const LIFE_S_MAX: i64 = 3_600;

/// An assertion that is parsed but not verified.
pub struct Assertion<'a> {
    token: BearerToken<'a>,
    header: Header,
    claims: Claims,
    signature: Vec<u8>,
}

/// The claims of a verified assertion that must be stored, so that it is accepted only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asserted {
    /// Its unique id.
    pub jti: String,
    /// The time from which it is refused as expired.
    pub until: Timestamp,
    /// The thumbprint of a second key that it vouches for (`jkt`), if it names one.
    pub for_key: Option<String>,
}

impl<'a> Assertion<'a> {
    /// Parses an assertion; does not verify it.
    ///
    /// # Errors
    /// [`GrantDenial::AssertionMalformed`].
    pub fn parse(text: &'a str) -> Result<Self, GrantDenial> {
        let malformed = GrantDenial::AssertionMalformed;
        let token = BearerToken::parse(text.as_bytes()).map_err(|_| malformed)?;
        // RFC 7523 names no `typ`; its successor draft names this one.
        let types = ["jwt", "client-authentication+jwt"];
        let header = Header::parse_typed(token.header(), &types).map_err(|_| malformed)?;
        let claims = Claims::parse(token.payload()).map_err(|_| malformed)?;
        let signature = base64url(token.signature()).ok_or(malformed)?;
        // RFC 7523 §3, items 1 and 2: `iss` and `sub` are both the client.
        match claims.text("sub") {
            Ok(Some(sub)) if sub == claims.iss && is_identity_text(sub) => {}
            _ => return Err(malformed),
        }
        Ok(Assertion { token, header, claims, signature })
    }

    /// The client that the assertion claims to be from.
    pub fn client(&self) -> &str {
        &self.claims.iss
    }

    /// Verifies it with the client's keys: signature, audience and lifetime. `kid` selects the key
    /// if the client has one of that name. Libraries also send a `kid` that they never registered,
    /// and the signature decides in any case.
    ///
    /// # Errors
    /// [`GrantDenial::AssertionSignature`] first, so that a client without the key learns nothing
    /// more; then [`GrantDenial::AssertionAudience`] and [`GrantDenial::AssertionTime`]. An
    /// assertion without a `jti` is [`GrantDenial::AssertionMalformed`].
    pub fn verify<'k>(
        &self,
        keys: &'k [ClientKey],
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(Asserted, &'k ClientKey), GrantDenial> {
        let kid = self.header.kid.as_deref();
        let named = kid.filter(|kid| keys.iter().any(|key| key.is_named(kid)));
        let key = keys
            .iter()
            .filter(|key| named.is_none_or(|kid| key.is_named(kid)))
            .filter(|key| key.algorithm() == self.header.algorithm)
            .find(|key| key.verifies(self.token.signing_input(), &self.signature))
            .ok_or(GrantDenial::AssertionSignature)?;
        // A list is refused even with one member: two parsers could use different members of a
        // list.
        match self.claims.raw("aud") {
            Some(Json::Text(audience)) if audiences.contains(audience) => {}
            _ => return Err(GrantDenial::AssertionAudience),
        }
        let jti = self.text("jti")?.ok_or(GrantDenial::AssertionMalformed)?.to_owned();
        let for_key = self.text("jkt")?.map(str::to_owned);
        let until = self.alive(now.as_second())?;
        let until = Timestamp::from_second(until).map_err(|_| GrantDenial::AssertionTime)?;
        Ok((Asserted { jti, until, for_key }, key))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, GrantDenial> {
        match self.claims.text(name) {
            Ok(None) => Ok(None),
            Ok(Some(text)) if is_identity_text(text) => Ok(Some(text)),
            _ => Err(GrantDenial::AssertionMalformed),
        }
    }

    /// The time until which it is accepted, in seconds after 1970.
    fn alive(&self, now: i64) -> Result<i64, GrantDenial> {
        let Claims { exp, nbf, iat, .. } = self.claims;
        let until = exp.saturating_add(LEEWAY_S);
        let begins = [nbf, iat].into_iter().flatten();
        let ahead = begins.clone().any(|at| at > now.saturating_add(LEEWAY_S));
        let begin = begins.min().unwrap_or(now).min(now);
        let long = exp.saturating_sub(begin) > LIFE_S_MAX.saturating_add(LEEWAY_S);
        if now >= until || ahead || long { Err(GrantDenial::AssertionTime) } else { Ok(until) }
    }
}

/// The claims for a new assertion.
#[derive(Clone, Debug)]
pub struct AssertionRequest<'a> {
    /// The client: `iss` and `sub`.
    pub client: &'a str,
    /// The token service: its issuer or its token endpoint.
    pub audience: &'a str,
    /// The thumbprint of a second key to vouch for.
    pub for_key: Option<&'a str>,
    /// Its `jti`, fresh for each assertion.
    pub id: Uuid,
}

impl TokenSigner {
    /// Signs an assertion that is valid for one minute.
    ///
    /// # Errors
    /// [`MintError::Signing`].
    pub fn assertion(
        &self,
        request: &AssertionRequest<'_>,
        now: Timestamp,
    ) -> Result<String, MintError> {
        let AssertionRequest { client, audience, for_key, id } = *request;
        let now_s = now.as_second();
        let header = json!({ "typ": "JWT", "alg": self.algorithm().name(), "kid": self.kid() });
        let mut claims = json!({
            "iss": client, "sub": client, "aud": audience, "jti": id,
            "iat": now_s, "exp": now_s.saturating_add(60),
        });
        if let (Some(key), Some(members)) = (for_key, claims.as_object_mut()) {
            members.insert("jkt".to_owned(), key.into());
        }
        let text = format!("{}.{}", segment(&header)?, segment(&claims)?);
        let signature = self.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", to_base64url(signature)))
    }
}
