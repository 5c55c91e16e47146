//! Signs the site's own tokens: Configuration Manager's claims, one purpose and a bounded lifetime
//! each.
//!
//! Never formats or returns a private key except from the function that generates one.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use jiff::Timestamp;
use rustls_pki_types::PrivateKeyDer;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::identity::SITE_KINDS;
use super::keys::thumbprints;
use super::material::Material;
use super::origin::{ORIGINS_MAX, TokenOrigin};
use super::scope::ContentScope;
use super::text::{is_identity_text, site_device, to_base64url};
use crate::purpose::Purpose;

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// The kind of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerKind {
    /// P-256, for ES256.
    P256,
    /// RSA of 2048 bits, for RS256, as Configuration Manager's own tokens use.
    Rsa2048,
}

/// A private key that signs tokens, and the names by which verifiers find its public key.
pub struct TokenSigner {
    pair: KeyPairKind,
    material: Material,
    kid: String,
    x5t: Option<String>,
}

enum KeyPairKind {
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// The content of a new token.
#[derive(Clone, Debug)]
pub struct MintRequest<'a> {
    /// Its purpose.
    pub purpose: Purpose,
    /// The device, `GUID:` and a GUID: required for all purposes but registration, unless there is
    /// a user.
    pub device: Option<&'a str>,
    /// The user, only for client tokens.
    pub user: Option<&'a str>,
    /// The `aud`.
    pub audience: &'a str,
    /// The `iss`.
    pub issuer: &'a str,
    /// The hierarchy, which becomes the `TenantId`.
    pub hierarchy: Uuid,
    /// The lifetime, in seconds; `None` for the purpose's default.
    pub lifetime_s: Option<i64>,
    /// The SHA-256 thumbprint (base64url) of the client certificate it is bound to (RFC 8705).
    pub bound_to: Option<&'a str>,
    /// The scope, for content, boot media and task sequences: `package:ID` and `path:/PREFIX`,
    /// separated by spaces.
    pub scope: Option<&'a str>,
    /// The tokens that it is made from, the oldest first.
    pub origins: &'a [TokenOrigin],
    /// The id by which it can be blocked: fresh for each token.
    pub id: Uuid,
}

/// Why no token or signer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// Not a PKCS#8 key of a usable kind.
    #[error("the signing key is not a PKCS#8 key of P-256 or RSA of at least 2048 bits")]
    Key,
    /// Not a certificate, or for another key.
    #[error("the signing certificate is not well-formed or does not belong to the signing key")]
    Certificate,
    /// The required device is missing, or not in the form of a device id.
    #[error("a token of this purpose needs a device of the form GUID: and a GUID")]
    Device,
    /// A user for a purpose that has none, or one that is unsafe in a header.
    #[error("a user must be printable ASCII of 1 to 256 bytes, and in client tokens alone")]
    User,
    /// An empty issuer or audience, an invalid thumbprint, or an origin that could not be parsed
    /// again.
    #[error("issuer, audience, origin or certificate thumbprint is empty or not well-formed")]
    Envelope,
    /// A scope that is not understood, or for a purpose that has none.
    #[error(
        "a scope is of package:ID and path:/PREFIX, for content, boot media and task sequences"
    )]
    Scope,
    /// Longer than its purpose allows, or less than a second.
    #[error("a token of this purpose lives between 1 and {max_s} seconds")]
    Lifetime {
        /// The longest lifetime, in seconds.
        max_s: i64,
    },
    /// A failure of the cryptographic library.
    #[error("signing failed")]
    Signing,
}

/// The default and the longest lifetime of a token of a purpose, in seconds. A client token that is
/// bound to a key lives as long as Configuration Manager's; an unbound bearer token lives one day.
pub const fn lifetime_s(purpose: Purpose, is_bound: bool) -> (i64, i64) {
    match purpose {
        Purpose::Registration => (3 * DAY_S, 7 * DAY_S),
        Purpose::Client if is_bound => (90 * DAY_S, 90 * DAY_S),
        Purpose::Client => (DAY_S, DAY_S),
        Purpose::Content => (8 * HOUR_S, 8 * HOUR_S),
        Purpose::Media => (7 * DAY_S, 30 * DAY_S),
        Purpose::TaskSequence => (DAY_S, 3 * DAY_S),
    }
}

/// The longest lifetime of any of the site's tokens, in seconds.
pub const LIFETIME_MAX_S: i64 = 90 * DAY_S;

impl TokenSigner {
    /// Generates a private key, as PKCS#8 DER.
    ///
    /// # Errors
    /// [`MintError::Signing`] if the library fails.
    pub fn generate(kind: SignerKind) -> Result<Zeroizing<Vec<u8>>, MintError> {
        let failed = |_| MintError::Signing;
        Ok(Zeroizing::new(match kind {
            SignerKind::P256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .and_then(|pair| pair.to_pkcs8v1())
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            SignerKind::Rsa2048 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(failed)?.as_ref().to_vec()
            }
        }))
    }

    /// A signer from a PKCS#8 private key and, if verifiers look it up by thumbprint, its
    /// certificate, both DER.
    ///
    /// # Errors
    /// [`MintError::Key`] or [`MintError::Certificate`].
    pub fn from_pkcs8(key: &[u8], certificate: Option<&[u8]>) -> Result<Self, MintError> {
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key);
        let (pair, spki) = match p256 {
            Ok(pair) => {
                let spki: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                let spki = spki.map_err(|_| MintError::Key)?;
                (KeyPairKind::P256(pair), spki.as_ref().to_vec())
            }
            Err(_) => {
                let pair = RsaKeyPair::from_pkcs8(key).map_err(|_| MintError::Key)?;
                let spki: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                let spki = spki.map_err(|_| MintError::Key)?;
                (KeyPairKind::Rsa(Box::new(pair)), spki.as_ref().to_vec())
            }
        };
        let material = Material::from_spki(&spki).map_err(|_| MintError::Key)?;
        // A key that verifiers would refuse must not sign.
        material.verifier(material.default_algorithm()).map_err(|_| MintError::Key)?;
        if certificate.is_some_and(|der| certified(der).as_ref() != Some(&material)) {
            return Err(MintError::Certificate);
        }
        let x5t = certificate.map(|der| thumbprints(der).0);
        Ok(TokenSigner { pair, kid: material.thumbprint(), material, x5t })
    }

    /// Like [`TokenSigner::from_pkcs8`], with the key as PEM.
    ///
    /// # Errors
    /// As [`TokenSigner::from_pkcs8`].
    pub fn from_pem(key: &[u8], certificate: Option<&[u8]>) -> Result<Self, MintError> {
        match crate::pem::private_key(key) {
            Some(PrivateKeyDer::Pkcs8(key)) => {
                TokenSigner::from_pkcs8(key.secret_pkcs8_der(), certificate)
            }
            _ => Err(MintError::Key),
        }
    }

    /// The name of the key: its JWK thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.material.default_algorithm()
    }

    /// The public key as a JWK (RFC 7517), for verifiers.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.material.to_jwk();
        jwk.insert("use".into(), "sig".into());
        jwk.insert("alg".into(), self.algorithm().name().into());
        jwk.insert("kid".into(), self.kid.clone().into());
        if let Some(x5t) = &self.x5t {
            jwk.insert("x5t".into(), x5t.clone().into());
        }
        Value::Object(jwk)
    }

    /// Signs a token that is valid from now on.
    ///
    /// # Errors
    /// The fault of the request, or [`MintError::Signing`].
    pub fn mint(&self, request: &MintRequest<'_>, now: Timestamp) -> Result<String, MintError> {
        let claims = TokenEnvelope::of(request, now.as_second())?;
        let header = TokenHeader {
            typ: "JWT",
            alg: self.algorithm().name(),
            x5t: self.x5t.as_deref(),
            kid: &self.kid,
        };
        let text = format!("{}.{}", segment(&header)?, segment(&claims)?);
        let signature = self.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", to_base64url(signature)))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MintError> {
        let random = SystemRandom::new();
        let failed = |_| MintError::Signing;
        match &self.pair {
            KeyPairKind::P256(pair) => {
                pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(failed)
            }
            KeyPairKind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({} {})", self.algorithm(), self.kid)
    }
}

/// The JWK set of these signers (RFC 7517 §5): the current one, and those before and after it.
pub fn jwks<'a>(signers: impl IntoIterator<Item = &'a TokenSigner>) -> Value {
    json!({ "keys": signers.into_iter().map(TokenSigner::jwk).collect::<Vec<_>>() })
}

fn certified(der: &[u8]) -> Option<Material> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Material::from_parsed_spki(certificate.public_key()).ok()
}

pub(super) fn segment(value: &impl Serialize) -> Result<String, MintError> {
    serde_json::to_vec(value).map(to_base64url).map_err(|_| MintError::Signing)
}

#[derive(Serialize)]
struct TokenHeader<'a> {
    typ: &'a str,
    alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5t: Option<&'a str>,
    kid: &'a str,
}

/// The claims in Configuration Manager's order, followed by those of the standards.
#[derive(Serialize)]
struct TokenEnvelope<'a> {
    #[serde(rename = "SCCMTokenCategory")]
    category: &'a str,
    #[serde(rename = "Authority")]
    authority: &'a str,
    #[serde(rename = "License")]
    license: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "TenantId")]
    tenant: String,
    #[serde(rename = "UniqueId")]
    unique_id: Uuid,
    iss: &'a str,
    aud: &'a str,
    exp: i64,
    nbf: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(rename = "UserId", skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    iat: i64,
    jti: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    origin: &'a [TokenOrigin],
}

impl<'a> TokenEnvelope<'a> {
    fn of(request: &MintRequest<'a>, now_s: i64) -> Result<Self, MintError> {
        let MintRequest { purpose, device, user, bound_to, scope, origins, id, .. } = *request;
        let (usual_s, max_s) = lifetime_s(purpose, bound_to.is_some());
        let lifetime_s = request.lifetime_s.unwrap_or(usual_s);
        if !(1..=max_s).contains(&lifetime_s) {
            return Err(MintError::Lifetime { max_s });
        }
        if request.issuer.is_empty()
            || request.audience.is_empty()
            || bound_to.is_some_and(|hash| hash.len() != 43 || !is_identity_text(hash))
            || origins.len() > ORIGINS_MAX
            || !origins.iter().all(TokenOrigin::is_well_formed)
        {
            return Err(MintError::Envelope);
        }
        let sub = device.map(|d| site_device(d).ok_or(MintError::Device)).transpose()?;
        if user.is_some_and(|u| purpose != Purpose::Client || !is_identity_text(u)) {
            return Err(MintError::User);
        }
        let limited = matches!(purpose, Purpose::Content | Purpose::Media | Purpose::TaskSequence);
        if scope.is_some_and(|scope| !limited || ContentScope::read(scope).is_none()) {
            return Err(MintError::Scope);
        }
        let kind = match (purpose, &sub, user) {
            (Purpose::Registration, None, _) => "BulkRegistration",
            (Purpose::Client, Some(_), None) => "Device",
            (Purpose::Client, Some(_), Some(_)) => "UDA",
            (Purpose::Client, None, Some(_)) => "User",
            (Purpose::Content, Some(_), _) => "ContentAccess",
            (Purpose::Media, Some(_), _) => "BootMedia",
            (Purpose::TaskSequence, Some(_), _) => "TaskSequence",
            _ => return Err(MintError::Device),
        };
        let known = SITE_KINDS.iter().find(|(_, t, p)| *t == kind && *p == purpose);
        let (category, kind, _) = known.ok_or(MintError::Device)?;
        Ok(TokenEnvelope {
            category,
            authority: "SCCM",
            license: "SCCM",
            kind,
            tenant: request.hierarchy.to_string().to_ascii_uppercase(),
            unique_id: id,
            iss: request.issuer,
            aud: request.audience,
            exp: now_s.saturating_add(lifetime_s),
            nbf: now_s,
            sub,
            user,
            iat: now_s,
            jti: id,
            cnf: bound_to.map(|hash| json!({ "x5t#S256": hash })),
            scope,
            origin: origins,
        })
    }
}
