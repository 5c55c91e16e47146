//! A simulated device of the site: it registers its own key, and gets its tokens by proof of
//! possession.
//!
//! Talks to a token service as any OAuth client would, and knows only its responses.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};
use sitegate::token::{AssertionRequest, MintError, SignerKind, TokenSigner};
use uuid::Uuid;

use super::client::{ClientError, SimAnswer, SimClient, SimRequest};

const FORM: &str = "application/x-www-form-urlencoded";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A device with its own key.
pub struct SimDevice {
    signer: TokenSigner,
    /// The token service's issuer, which is its URL.
    issuer: String,
    /// The path of the service.
    path: String,
    /// The id that the site gave it.
    id: Option<String>,
}

/// Why a request to the token service failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No response.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The token service refuses.
    #[error("{status} {code}: {description}")]
    Refused {
        /// The status.
        status: u16,
        /// sitegate's code.
        code: String,
        /// The description.
        description: String,
    },
    /// Its own key cannot sign.
    #[error(transparent)]
    Key(#[from] MintError),
    /// It has no id yet.
    #[error("the device is not registered")]
    Unregistered,
}

impl DeviceError {
    /// sitegate's code, if the service refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            DeviceError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl SimDevice {
    /// A device with a new key. `issuer` is that of the token service's metadata; `path` is the
    /// service's path on the site system.
    ///
    /// # Errors
    /// If no key could be made.
    pub fn new(kind: SignerKind, issuer: &str, path: &str) -> Result<Self, MintError> {
        let signer = TokenSigner::from_pkcs8(&TokenSigner::generate(kind)?, None)?;
        Ok(SimDevice { signer, issuer: issuer.to_owned(), path: path.to_owned(), id: None })
    }

    /// The id that the site gave it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Its public key's thumbprint.
    pub fn thumbprint(&self) -> &str {
        self.signer.kid()
    }

    /// Its public key as a JWK.
    pub fn jwk(&self) -> Value {
        self.signer.jwk()
    }

    /// Registers with a bulk or Entra token, or only with the connection's certificate. `more` is
    /// added to the registration document.
    ///
    /// # Errors
    /// Why it is not registered.
    pub async fn register(
        &mut self,
        client: &mut SimClient,
        token: Option<&str>,
        more: Value,
    ) -> Result<Value, DeviceError> {
        let mut body = json!({
            "jwks": { "keys": [self.jwk()] },
            "token_endpoint_auth_method": "private_key_jwt",
        });
        if let (Some(members), Value::Object(more)) = (body.as_object_mut(), more) {
            members.extend(more);
        }
        let request = SimRequest::new("POST", &format!("{}/register", self.path));
        let request = request.body("application/json", body.to_string());
        let request = token.iter().fold(request, |request, token| request.bearer(token));
        let told = read(client.fetch(&request).await?)?;
        self.id = told.get("client_id").and_then(Value::as_str).map(str::to_owned);
        Ok(told)
    }

    /// A client assertion of this device.
    ///
    /// # Errors
    /// Without an id, or if its key cannot sign.
    pub fn assertion(&self, now: Timestamp) -> Result<String, DeviceError> {
        let client = self.id.as_deref().ok_or(DeviceError::Unregistered)?;
        let (audience, for_key, id) = (self.issuer.as_str(), None, Uuid::new_v4());
        Ok(self.signer.assertion(&AssertionRequest { client, audience, for_key, id }, now)?)
    }

    /// The proof that this device held the id before another key replaced its key.
    ///
    /// # Errors
    /// As [`SimDevice::assertion`].
    pub fn proof_for(&self, new_key: &str, now: Timestamp) -> Result<String, DeviceError> {
        let client = self.id.as_deref().ok_or(DeviceError::Unregistered)?;
        let (audience, for_key, id) = (self.issuer.as_str(), Some(new_key), Uuid::new_v4());
        Ok(self.signer.assertion(&AssertionRequest { client, audience, for_key, id }, now)?)
    }

    /// Gets a token with a client assertion and additional parameters.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn token(
        &self,
        client: &mut SimClient,
        more: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<String, DeviceError> {
        let assertion = self.assertion(now)?;
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        form.extend(more);
        access_token(&ask(client, &self.path, "token", &form).await?)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// Why it was not revoked.
    pub async fn revoke(
        &self,
        client: &mut SimClient,
        token: &str,
        now: Timestamp,
    ) -> Result<(), DeviceError> {
        let assertion = self.assertion(now)?;
        let form = [
            ("token", token),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        ask(client, &self.path, "revoke", &form).await.map(drop)
    }
}

/// Exchanges a token for another (RFC 8693).
///
/// # Errors
/// Why it was refused.
pub async fn exchange(
    client: &mut SimClient,
    path: &str,
    subject: &str,
    more: &[(&str, &str)],
) -> Result<String, DeviceError> {
    let mut form =
        vec![("grant_type", EXCHANGE), ("subject_token", subject), ("subject_token_type", JWT)];
    form.extend(more);
    access_token(&ask(client, path, "token", &form).await?)
}

/// Posts a form to an endpoint of a token service.
///
/// # Errors
/// Its refusal, or the missing response.
pub async fn ask(
    client: &mut SimClient,
    path: &str,
    endpoint: &str,
    form: &[(&str, &str)],
) -> Result<Value, DeviceError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = SimRequest::new("POST", &format!("{path}/{endpoint}"));
    read(client.fetch(&request.body(FORM, body)).await?)
}

fn read(answer: SimAnswer) -> Result<Value, DeviceError> {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    match answer.status {
        200 | 201 => Ok(told),
        status => Err(DeviceError::Refused {
            status,
            code: text("code"),
            description: text("error_description"),
        }),
    }
}

fn access_token(told: &Value) -> Result<String, DeviceError> {
    let token = told.get("access_token").and_then(Value::as_str).map(str::to_owned);
    token.ok_or(DeviceError::Refused {
        status: 200,
        code: "-".to_owned(),
        description: "the answer has no access_token".to_owned(),
    })
}

impl fmt::Debug for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?} {})", self.id, self.signer.kid())
    }
}
