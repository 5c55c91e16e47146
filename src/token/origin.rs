//! The tokens that a site's token was made from (RFC 8693): claims about each, as the token service
//! verified them.
//!
//! A block of an origin is a block of what was made from it, so a token without room for another
//! origin cannot be exchanged.

use serde::Serialize;

use super::claims::{Claims, claim};
use super::json::Json;
use super::refusal::Refusal;
use super::text::is_identity_text;

/// The claim.
pub(super) const CLAIM: &str = "origin";
/// How many tokens may lie between a site's token and the first one.
pub const ORIGINS_MAX: usize = 4;

/// One token that a site's token was made from. Every text is printable ASCII of at most 256 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its `iss`.
    pub iss: String,
    /// The handle by which it is blocked.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// When it was issued, in seconds after 1970.
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
    /// The device that it spoke for, by its issuer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The user that it spoke for, by its issuer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Origin {
    /// Whom it spoke for: its user, else its device.
    pub fn subject(&self) -> Option<&str> {
        self.user.as_deref().or(self.device.as_deref())
    }

    /// Whether it can be written into a token and read again.
    pub(super) fn is_well_formed(&self) -> bool {
        let texts = [Some(&self.iss), self.token_id.as_ref(), self.device.as_ref()];
        let mut texts = texts.into_iter().chain([self.user.as_ref()]).flatten();
        texts.all(|text| is_identity_text(text)) && self.issued.is_none_or(|at| at >= 0)
    }
}

/// The origins of a site's token, the first of all first; none if it was made from no other.
///
/// # Errors
/// If the claim is there and not as sitegate writes it: an origin that is overlooked could be
/// blocked.
pub(super) fn read(claims: &Claims) -> Result<Vec<Origin>, Refusal> {
    let malformed = || claim("origin is not a list of one to four tokens");
    match claims.raw(CLAIM) {
        None => Ok(Vec::new()),
        Some(Json::List(list)) if (1..=ORIGINS_MAX).contains(&list.len()) => {
            list.iter().map(|one| read_one(one).ok_or_else(malformed)).collect()
        }
        Some(_) => Err(malformed()),
    }
}

fn read_one(json: &Json) -> Option<Origin> {
    let Json::Object(members) = json else { return None };
    let mut origin = Origin::default();
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
