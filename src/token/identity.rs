//! The identity in a verified token: a device, a user or both, and the token's purpose.
//!
//! Reads verified claims only. A value that is unsafe in a header is refused, or encoded so that no
//! two values become equal.

use std::sync::Arc;

use uuid::Uuid;

use super::claims::{Claims, Header, claim};
use super::issuer::{Issuer, IssuerKind, OidcClaims};
use super::json::Json;
use super::origin::{self, TokenOrigin};
use super::refusal::Refusal;
use super::scope::ContentScope;
use super::text::{guid, identity, is_identity_text, site_device};
use crate::denial::Denial;
use crate::purpose::Purpose;

/// The claims of a site token, as Configuration Manager spells them.
pub(super) mod site_claim {
    pub(in crate::token) const CATEGORY: &str = "SCCMTokenCategory";
    pub(in crate::token) const TYPE: &str = "Type";
    pub(in crate::token) const TENANT: &str = "TenantId";
    pub(in crate::token) const UNIQUE_ID: &str = "UniqueId";
    pub(in crate::token) const USER: &str = "UserId";
    pub(in crate::token) const DEVICE: &str = "DeviceId";
}

/// The scope of a token (RFC 8693 §4.2).
const SCOPE: &str = "scope";

/// All known categories and types of a site's tokens, with their purposes. `BulkRegistration`,
/// `Device` and `UDA` are Configuration Manager's, the others sitegate's.
pub(super) const SITE_KINDS: [(&str, &str, Purpose); 7] = [
    ("SCCMPreAuthToken", "BulkRegistration", Purpose::Registration),
    ("SCCMToken", "Device", Purpose::Client),
    ("SCCMToken", "UDA", Purpose::Client),
    ("SCCMToken", "User", Purpose::Client),
    ("SCCMToken", "ContentAccess", Purpose::Content),
    ("SCCMToken", "BootMedia", Purpose::Media),
    ("SCCMToken", "TaskSequence", Purpose::TaskSequence),
];

/// The subject of a token. Every text is printable ASCII of at most 256 bytes; other characters in
/// the ids of other issuers are percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device: `GUID:` and an upper-case GUID from a site, a lower-case GUID from Entra.
    pub device: Option<String>,
    /// The user, by the issuer's stable id.
    pub user: Option<String>,
    /// The configured name of the issuer.
    pub issuer: Arc<str>,
    /// The id by which this one token is blocked (`UniqueId`, `jti` or `uti`); a GUID is in lower
    /// case.
    pub token_id: Option<String>,
    /// The token's purpose.
    pub purpose: Purpose,
    /// The SHA-256 thumbprint (base64url) of the client certificate that the token is bound to. The
    /// caller must check that the connection has that certificate (RFC 8705 §3.1).
    pub bound_to: Option<String>,
    /// The scopes that limit it, in addition to its purpose; empty means no such limit.
    pub scopes: Arc<[ContentScope]>,
    /// The tokens that a site's token was made from, the oldest first: a block of one of them
    /// blocks this token.
    pub origins: Arc<[TokenOrigin]>,
}

impl Identity {
    /// Whether it speaks for a device.
    pub fn is_device(&self) -> bool {
        self.device.is_some()
    }

    /// Whether it speaks for a user.
    pub fn is_user(&self) -> bool {
        self.user.is_some()
    }

    /// Whether its scopes cover a canonical path.
    pub fn reaches(&self, canonical: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope.covers(canonical))
    }

    /// Reads the identity from claims with a verified signature.
    pub(super) fn read(issuer: &Issuer, header: &Header, claims: &Claims) -> Result<Self, Refusal> {
        check_access_token(header, claims)?;
        let bound_to = binding(claims)?;
        let subject = match &issuer.kind {
            IssuerKind::Site { hierarchy } => of_site(claims, hierarchy.as_ref())?,
            IssuerKind::Entra { tenant } => of_entra(claims, tenant)?,
            IssuerKind::Oidc(names) => of_oidc(claims, names)?,
        };
        let Subject { device, user, token_id, purpose } = subject;
        let scopes = scopes(issuer, claims, purpose)?;
        let origins = match issuer.kind {
            IssuerKind::Site { .. } => origin::read(claims)?.into(),
            IssuerKind::Entra { .. } | IssuerKind::Oidc(_) => Arc::default(),
        };
        let issuer = issuer.name.clone();
        Ok(Identity { device, user, issuer, token_id, purpose, bound_to, scopes, origins })
    }
}

struct Subject {
    device: Option<String>,
    user: Option<String>,
    token_id: Option<String>,
    purpose: Purpose,
}

/// RFC 8725 §3.11: refuses tokens that the same keys sign for other purposes. Identity tokens have
/// a nonce or hashes of the tokens issued with them, logout and event tokens have `events`; others
/// declare their type.
///
/// Access tokens of some providers have the session's nonce, too (Keycloak before 25). An identity
/// token may lack the hashes, so a nonce is accepted only if the token declares itself an access
/// token by a value that no identity token has.
fn check_access_token(header: &Header, claims: &Claims) -> Result<(), Refusal> {
    let refused = |detail| Err(Refusal::new(Denial::TokenType, detail));
    if ["at_hash", "c_hash", "s_hash", "events"].iter().any(|c| claims.has(c)) {
        return refused("its claims are those of an identity token");
    }
    let is = |text: &str, words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    let (token_use, typ) = (claims.text("token_use")?, claims.text("typ")?);
    let access = [
        (token_use.is_none_or(|t| is(t, &["access"])), token_use.is_some()),
        (
            typ.is_none_or(|t| is(t, &["bearer", "jwt", "at+jwt"])),
            typ.is_some_and(|t| is(t, &["bearer", "at+jwt"])),
        ),
    ];
    if !access.iter().all(|(allowed, _)| *allowed) {
        return refused("token_use or typ is not an access token's");
    }
    let says_so = header.is_access || access.iter().any(|(_, says_so)| *says_so);
    if claims.has("nonce") && !says_so {
        refused("it has a nonce, as an identity token has, and no typ of an access token")
    } else {
        Ok(())
    }
}

/// The proof of possession that the token demands (RFC 7800). A `cnf` that cannot be checked is
/// refused, not ignored.
fn binding(claims: &Claims) -> Result<Option<String>, Refusal> {
    match claims.raw("cnf") {
        None => Ok(None),
        Some(Json::Object(members)) => match members.as_slice() {
            [(name, Json::Text(hash))] if name == "x5t#S256" && hash.len() == 43 => {
                identity_text(hash).map(Some)
            }
            _ => Err(Refusal::new(Denial::TokenType, "cnf requires a proof that is not supported")),
        },
        Some(_) => Err(claim("cnf is not an object")),
    }
}

/// The scopes of a site's token for content, boot media or a task sequence. The `scope` of other
/// issuers has other values, and is ignored.
fn scopes(
    issuer: &Issuer,
    claims: &Claims,
    purpose: Purpose,
) -> Result<Arc<[ContentScope]>, Refusal> {
    let limited = matches!(purpose, Purpose::Content | Purpose::Media | Purpose::TaskSequence);
    match (&issuer.kind, claims.text(SCOPE)?) {
        (IssuerKind::Site { .. }, Some(claim_text)) if limited => {
            let read = ContentScope::read(claim_text);
            read.map(Arc::from).ok_or_else(|| claim("scope is unknown"))
        }
        _ => Ok(Arc::default()),
    }
}

fn of_site(claims: &Claims, hierarchy: Option<&Uuid>) -> Result<Subject, Refusal> {
    use site_claim::{CATEGORY, DEVICE, TENANT, TYPE, UNIQUE_ID, USER};
    if let (Some(ours), Some(theirs)) = (hierarchy, claims.text(TENANT)?)
        && Uuid::try_parse(theirs).ok().as_ref() != Some(ours)
    {
        return Err(Refusal::new(Denial::TokenTenant, "TenantId is of another hierarchy"));
    }
    let (category, kind) = (claims.text(CATEGORY)?, claims.text(TYPE)?);
    let known = SITE_KINDS.iter().find(|(c, t, _)| Some(*c) == category && Some(*t) == kind);
    let Some((_, kind, purpose)) = known else {
        let detail = "no known SCCMTokenCategory and Type";
        return Err(Refusal::new(Denial::TokenPurpose, detail));
    };
    let token_id = first_id(claims, &[UNIQUE_ID, "jti"])?;
    if token_id.is_none() {
        return Err(claim("UniqueId is missing: the token could not be blocked"));
    }
    let (wants_device, wants_user) = match *kind {
        "BulkRegistration" => (false, false),
        "User" => (false, true),
        "UDA" => (true, true),
        _ => (true, false),
    };
    let device = if wants_device {
        Some(site_subject(claims.text("sub")?, claims.text(DEVICE)?)?)
    } else {
        None
    };
    let user = match (wants_user, claims.text(USER)?) {
        (false, _) => None,
        (true, Some(user)) if guid(user).as_deref() != Some(NIL) => Some(identity_text(user)?),
        (true, _) => return Err(claim("UserId is missing in a user's token")),
    };
    Ok(Subject { device, user, token_id, purpose: *purpose })
}

/// The user id in Configuration Manager's device tokens.
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// The device of a site's token: `sub` in sitegate's own, `DeviceId` beside or instead of it.
fn site_subject(sub: Option<&str>, device: Option<&str>) -> Result<String, Refusal> {
    let read =
        |text: &str| site_device(text).ok_or_else(|| claim("the device is not GUID: and a GUID"));
    match (sub.map(read).transpose()?, device.map(read).transpose()?) {
        (Some(sub), Some(device)) if sub != device => Err(claim("sub and DeviceId differ")),
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(claim("sub is missing in a device's token")),
    }
}

/// Entra's access tokens. `idtyp` decides if it is present. Otherwise every user token, and no
/// other, has `scp`, and a device token has the device as its own subject. A token that is neither
/// is an application's.
fn of_entra(claims: &Claims, tenant: &Uuid) -> Result<Subject, Refusal> {
    let tid = claims.text("tid")?.and_then(|t| Uuid::try_parse(t).ok());
    if tid.as_ref() != Some(tenant) {
        return Err(Refusal::new(Denial::TokenTenant, "tid is not the issuer's tenant"));
    }
    if !matches!(claims.text("ver")?, Some("1.0" | "2.0")) {
        return Err(Refusal::new(
            Denial::TokenType,
            "ver is missing: not an access token of Entra",
        ));
    }
    let device = claims.text("deviceid")?;
    let device =
        device.map(|d| guid(d).ok_or_else(|| claim("deviceid is not a GUID"))).transpose()?;
    let (sub, scp) = (claims.text("sub")?, claims.text("scp")?.filter(|s| !s.is_empty()));
    let person = ["upn", "unique_name", "preferred_username", "roles"];
    let is_own_subject = device.is_some() && sub.and_then(guid) == device;
    let impersonal = scp.is_none() && !person.iter().any(|c| claims.has(c));
    let is_device = match (claims.text("idtyp")?, scp) {
        (Some("device"), _) => true,
        (Some("user"), _) | (None, Some(_)) => false,
        (None, None) if is_own_subject && impersonal => true,
        _ => return Err(Refusal::new(Denial::TokenPurpose, "neither a device's nor a user's")),
    };
    let token_id = first_id(claims, &["uti", "jti"])?;
    let purpose = Purpose::Client;
    if is_device {
        let device = Some(device.ok_or_else(|| claim("deviceid is missing in a device's token"))?);
        return Ok(Subject { device, user: None, token_id, purpose });
    }
    let user = claims.text("oid")?.or(sub).ok_or_else(|| claim("oid and sub are missing"))?;
    Ok(Subject { device, user: Some(encoded(user)?), token_id, purpose })
}

fn of_oidc(claims: &Claims, names: &OidcClaims) -> Result<Subject, Refusal> {
    let read = |name: &Option<String>| match name {
        Some(name) => claims.text(name)?.map(encoded).transpose(),
        None => Ok(None),
    };
    let (device, user) = (read(&names.device)?, read(&names.user)?);
    if device.is_none() && user.is_none() {
        let detail = "it has neither the device claim nor the user claim of its issuer";
        return Err(Refusal::new(Denial::TokenPurpose, detail));
    }
    let token_id = first_id(claims, &["jti"])?;
    Ok(Subject { device, user, token_id, purpose: Purpose::Client })
}

/// The first of these claims that is present, safe for a header; a GUID in its canonical spelling,
/// so that another spelling cannot bypass a blocklist.
fn first_id(claims: &Claims, names: &[&str]) -> Result<Option<String>, Refusal> {
    for name in names {
        if let Some(id) = claims.text(name)? {
            return identity_text(id).map(|id| Some(guid(&id).unwrap_or(id)));
        }
    }
    Ok(None)
}

/// Percent-encodes an id that people may have chosen. Ids in the site's own tokens are already
/// encoded.
fn encoded(value: &str) -> Result<String, Refusal> {
    let detail = "an identity claim is empty, has a control character or a space at an end, or is \
                  longer than 256 bytes with percent-encoding";
    identity(value).ok_or_else(|| claim(detail))
}

fn identity_text(value: &str) -> Result<String, Refusal> {
    if is_identity_text(value) {
        Ok(value.to_owned())
    } else {
        Err(claim("an identity claim is not printable ASCII of 1 to 256 bytes"))
    }
}
