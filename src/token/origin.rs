//! The tokens that a site's token was made from by token exchange (RFC 8693), with claims about
//! each as the token service verified them.
//!
//! A block of an origin also blocks the tokens made from it, so a token with the maximum number of
//! origins cannot be exchanged again.

use serde::Serialize;

use super::claims::{Claims, claim};
use super::json::Json;
use super::refusal::Refusal;
use super::text::is_identity_text;

/// The name of the claim.
pub(super) const CLAIM: &str = "origin";
/// The largest number of origins of a token.
pub const ORIGINS_MAX: usize = 4;

/// One token that a site's token was made from. Every text is printable ASCII of at most 256 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenOrigin {
    /// Its `iss`.
    pub iss: String,
    /// The id by which it is blocked.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The time of issue, in seconds after 1970.
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
    /// Its device, by its issuer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its user, by its issuer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl TokenOrigin {
    /// Its user, else its device.
    pub fn subject(&self) -> Option<&str> {
        self.user.as_deref().or(self.device.as_deref())
    }

    /// Whether it can be written into a token and parsed again.
    pub(super) fn is_well_formed(&self) -> bool {
        let texts = [Some(&self.iss), self.token_id.as_ref(), self.device.as_ref()];
        let mut texts = texts.into_iter().chain([self.user.as_ref()]).flatten();
        texts.all(|text| is_identity_text(text)) && self.issued.is_none_or(|at| at >= 0)
    }
}

/// The origins of a site's token, the oldest first; empty if it was made from no other.
///
/// # Errors
/// If the claim is present but not as sitegate writes it: an ignored origin could be a blocked one.
pub(super) fn read(claims: &Claims) -> Result<Vec<TokenOrigin>, Refusal> {
    let malformed = || claim("origin is not a list of one to four tokens");
    match claims.raw(CLAIM) {
        None => Ok(Vec::new()),
        Some(Json::List(list)) if (1..=ORIGINS_MAX).contains(&list.len()) => {
            list.iter().map(|one| read_one(one).ok_or_else(malformed)).collect()
        }
        Some(_) => Err(malformed()),
    }
}

fn read_one(json: &Json) -> Option<TokenOrigin> {
    let Json::Object(members) = json else { return None };
    let mut origin = TokenOrigin::default();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("iss", Json::Text(text)) => origin.iss.clone_from(text),
            ("jti", Json::Text(text)) => origin.token_id = Some(text.clone()),
            ("iat", Json::Integer(seconds)) => origin.issued = Some(*seconds),
            ("device", Json::Text(text)) => origin.device = Some(text.clone()),
            ("user", Json::Text(text)) => origin.user = Some(text.clone()),
            _ => return None,
        }
    }
    origin.is_well_formed().then_some(origin)
}
