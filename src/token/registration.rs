//! The metadata of a client registration (RFC 7591 §2).
//!
//! Accepts one public key and the device's names; fetches nothing, and omits unknown metadata from
//! the response.

use super::client_key::ClientKey;
use super::json::Json;
use super::text::{printable, site_device};
use crate::grant_denial::GrantDenial;

/// A registration request's body.
#[derive(Clone, Debug)]
pub struct ClientMetadata {
    /// The client's public key.
    pub key: ClientKey,
    /// The existing device that it claims to be, `GUID:` and a GUID (`device_id`).
    pub device: Option<String>,
    /// An assertion by a former key of that device (`device_proof`).
    pub proof: Option<String>,
    /// A display name, sanitised for logs (`client_name`).
    pub name: Option<String>,
}

impl ClientMetadata {
    /// Parses a request body.
    ///
    /// # Errors
    /// [`GrantDenial::RequestMalformed`] if it is not a JSON object,
    /// [`GrantDenial::RegistrationKey`] if the key is not accepted,
    /// [`GrantDenial::RegistrationMetadata`] for the rest; each with a detail for the client.
    pub fn parse(body: &[u8]) -> Result<Self, (GrantDenial, String)> {
        let malformed = |why: &str| (GrantDenial::RequestMalformed, why.to_owned());
        let metadata = |why: &str| (GrantDenial::RegistrationMetadata, why.to_owned());
        let json = Json::parse(body).map_err(|fault| malformed(fault.as_str()))?;
        if !matches!(json, Json::Object(_)) {
            return Err(malformed("no JSON object"));
        }
        let text = |name: &str| match json.member(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(metadata(&format!("{name} is not a string"))),
        };
        match text("token_endpoint_auth_method")? {
            None | Some("private_key_jwt") => {}
            Some(_) => return Err(metadata("token_endpoint_auth_method is not private_key_jwt")),
        }
        if json.member("jwks_uri").is_some() {
            return Err(metadata("keys are not fetched from jwks_uri; send jwks"));
        }
        let keys = match json.member("jwks").and_then(|jwks| jwks.member("keys")) {
            Some(Json::List(keys)) => keys,
            _ => return Err(metadata("jwks with a list of keys is missing")),
        };
        let [jwk] = keys.as_slice() else {
            return Err(metadata("jwks does not have exactly one key"));
        };
        let key = ClientKey::read(jwk, text("token_endpoint_auth_signing_alg")?)
            .map_err(|fault| (GrantDenial::RegistrationKey, fault.to_string()))?;
        let device = match text("device_id")? {
            None => None,
            Some(id) => {
                Some(site_device(id).ok_or_else(|| metadata("device_id is not GUID: and a GUID"))?)
            }
        };
        let proof = text("device_proof")?.map(str::to_owned);
        if proof.is_some() && device.is_none() {
            return Err(metadata("device_proof needs device_id beside it"));
        }
        let name = text("client_name")?.map(printable);
        Ok(ClientMetadata { key, device, proof, name })
    }
}
