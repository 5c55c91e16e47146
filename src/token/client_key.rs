//! A client's public key, as it registers it: the kinds that are taken, and its one spelling.
//!
//! Holds public keys alone; what carries a private one is refused.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;

use super::algorithm::Algorithm;
use super::json::Json;
use super::material::Material;
use super::text::is_identity_text;

/// The public key of a registered client, and the one algorithm that it signs with.
#[derive(Clone)]
pub struct ClientKey {
    material: Material,
    algorithm: Algorithm,
    thumbprint: String,
    kid: Option<String>,
    verifier: Arc<ParsedPublicKey>,
}

/// Why a key is not taken, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {0}")]
pub struct ClientKeyFault(&'static str);

impl ClientKey {
    /// Read a key as it was stored, or as a client sends it: a JWK (RFC 7517).
    ///
    /// # Errors
    /// What is wrong with it: not a JWK, private, too weak, or of an unknown kind.
    pub fn from_jwk(bytes: &[u8]) -> Result<Self, ClientKeyFault> {
        let json = Json::parse(bytes).map_err(|fault| ClientKeyFault(fault.as_str()))?;
        ClientKey::read(&json, None)
    }

    /// `wished` is the algorithm that is named beside the key.
    pub(super) fn read(jwk: &Json, wished: Option<&str>) -> Result<Self, ClientKeyFault> {
        let material = Material::from_jwk(jwk).map_err(ClientKeyFault)?;
        if jwk.member("use").is_some_and(|u| u.as_text() != Some("sig")) {
            return Err(ClientKeyFault("is not for signatures"));
        }
        if let Some(operations) = jwk.member("key_ops") {
            let Json::List(operations) = operations else {
                return Err(ClientKeyFault("has key_ops that is no list"));
            };
            if !operations.iter().any(|o| o.as_text() == Some("verify")) {
                return Err(ClientKeyFault("is not for verifying"));
            }
        }
        let named = match (jwk.member("alg"), wished) {
            (Some(own), _) => Some(own.as_text().unwrap_or_default()),
            (None, wished) => wished,
        };
        let algorithm = match named {
            Some(name) => {
                Algorithm::from_name(name).ok_or(ClientKeyFault("has an alg that is not known"))?
            }
            None => material.default_algorithm(),
        };
        let kid = match jwk.member("kid") {
            None => None,
            Some(Json::Text(kid)) if is_identity_text(kid) => Some(kid.clone()),
            Some(_) => return Err(ClientKeyFault("has a kid that is not printable ASCII text")),
        };
        let verifier = Arc::new(material.verifier(algorithm).map_err(ClientKeyFault)?);
        Ok(ClientKey { thumbprint: material.thumbprint(), kid, material, algorithm, verifier })
    }

    /// Its name: the JWK thumbprint (RFC 7638, SHA-256, base64url).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether a client means this key by a `kid`: by the one that it registered, or by the
    /// thumbprint.
    pub(super) fn is_named(&self, kid: &str) -> bool {
        self.kid.as_deref() == Some(kid) || self.thumbprint == kid
    }

    /// The one algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as a JWK in one spelling, under the `kid` that the client has for it or else its
    /// thumbprint, whatever else the client sent with it.
    pub fn jwk(&self) -> String {
        let mut jwk = self.material.to_jwk();
        jwk.insert("alg".into(), self.algorithm.name().into());
        jwk.insert("kid".into(), self.kid.as_ref().unwrap_or(&self.thumbprint).clone().into());
        jwk.insert("use".into(), "sig".into());
        serde_json::Value::Object(jwk).to_string()
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({} {})", self.algorithm, self.thumbprint)
    }
}
