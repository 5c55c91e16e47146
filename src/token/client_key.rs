//! A client's public key, as registered: the accepted kinds, and its canonical JWK.
//!
//! Holds only public keys; a JWK with a private key is refused.

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

/// Why a key is not accepted, for logs and responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {0}")]
pub struct ClientKeyFault(&'static str);

impl ClientKey {
    /// Parses a key from the store or from a client: a JWK (RFC 7517).
    ///
    /// # Errors
    /// The fault: not a JWK, private, too weak, or of an unknown kind.
    pub fn from_jwk(bytes: &[u8]) -> Result<Self, ClientKeyFault> {
        let json = Json::parse(bytes).map_err(|fault| ClientKeyFault(fault.as_str()))?;
        ClientKey::read(&json, None)
    }

    /// `wished` is the algorithm named beside the key.
    pub(super) fn read(jwk: &Json, wished: Option<&str>) -> Result<Self, ClientKeyFault> {
        let material = Material::from_jwk(jwk).map_err(ClientKeyFault)?;
        if jwk.member("use").is_some_and(|u| u.as_text() != Some("sig")) {
            return Err(ClientKeyFault("is not for signatures"));
        }
        if let Some(operations) = jwk.member("key_ops") {
            let Json::List(operations) = operations else {
                return Err(ClientKeyFault("has key_ops that is not a list"));
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
            Some(name) => Algorithm::from_name(name).ok_or(ClientKeyFault("has an unknown alg"))?,
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

    /// Whether a `kid` refers to this key: by the name that the client registered, or by the
    /// thumbprint.
    pub(super) fn is_named(&self, kid: &str) -> bool {
        self.kid.as_deref() == Some(kid) || self.thumbprint == kid
    }

    /// The one algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as a canonical JWK, with the client's `kid` or else the thumbprint, and without
    /// other members that the client sent.
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
