//! A simulated device of the site: it registers its own key, and gets its tokens by proving it.
//!
//! Speaks to a token service as any OAuth client would, and knows no more than its answers.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Answer, Client, ClientError, Request};
use crate::token::{AssertionRequest, MintError, SignerKind, TokenSigner};

const FORM: &str = "application/x-www-form-urlencoded";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A device with a key of its own.
pub struct Device {
    signer: TokenSigner,
    /// The token service's issuer, which is its URL.
    issuer: String,
    /// The service's path.
    path: String,
    /// The id that the site gave it.
    id: Option<String>,
}

/// Why a device did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No.
    #[error("{status} {code}: {description}")]
    Refused {
        /// The status.
        status: u16,
        /// sitegate's code.
        code: String,
        /// In words.
        description: String,
    },
    /// Its own key does not sign.
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

impl Device {
    /// A device that has made itself a key. `issuer` is the token service's, as its metadata say;
    /// `path` is where it is on the site system.
    ///
    /// # Errors
    /// If no key could be made.
    pub fn new(kind: SignerKind, issuer: &str, path: &str) -> Result<Self, MintError> {
        let signer = TokenSigner::from_pkcs8(&TokenSigner::generate(kind)?, None)?;
        Ok(Device { signer, issuer: issuer.to_owned(), path: path.to_owned(), id: None })
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

    /// Register with a bulk or Entra token, or with nothing but the connection's certificate.
    /// `more` is added to what it says of itself.
    ///
    /// # Errors
    /// Why it is not registered.
    pub async fn register(
        &mut self,
        client: &mut Client,
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
        let request = Request::new("POST", &format!("{}/register", self.path));
        let request = request.body("application/json", body.to_string());
        let request = token.iter().fold(request, |request, token| request.bearer(token));
        let told = read(client.fetch(&request).await?)?;
        self.id = told.get("client_id").and_then(Value::as_str).map(str::to_owned);
        Ok(told)
    }

    /// An assertion of this device.
    ///
    /// # Errors
    /// Without an id, or if its key does not sign.
    pub fn assertion(&self, now: Timestamp) -> Result<String, DeviceError> {
        let client = self.id.as_deref().ok_or(DeviceError::Unregistered)?;
        let (audience, for_key, id) = (self.issuer.as_str(), None, Uuid::new_v4());
        Ok(self.signer.assertion(&AssertionRequest { client, audience, for_key, id }, now)?)
    }

    /// The proof that this device, now `former`, was it before another key took its place.
    ///
    /// # Errors
    /// As [`Device::assertion`].
    pub fn proof_for(&self, new_key: &str, now: Timestamp) -> Result<String, DeviceError> {
        let client = self.id.as_deref().ok_or(DeviceError::Unregistered)?;
        let (audience, for_key, id) = (self.issuer.as_str(), Some(new_key), Uuid::new_v4());
        Ok(self.signer.assertion(&AssertionRequest { client, audience, for_key, id }, now)?)
    }

    /// Get a token by proof of the key, with more parameters.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(
        &self,
        client: &mut Client,
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

    /// Give up a token.
    ///
    /// # Errors
    /// Why it stays.
    pub async fn revoke(
        &self,
        client: &mut Client,
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

/// Exchange a token for another (RFC 8693).
///
/// # Errors
/// Why not.
pub async fn exchange(
    client: &mut Client,
    path: &str,
    subject: &str,
    more: &[(&str, &str)],
) -> Result<String, DeviceError> {
    let mut form =
        vec![("grant_type", EXCHANGE), ("subject_token", subject), ("subject_token_type", JWT)];
    form.extend(more);
    access_token(&ask(client, path, "token", &form).await?)
}

/// Post a form to an endpoint of a token service.
///
/// # Errors
/// Its refusal, or that there is no answer.
pub async fn ask(
    client: &mut Client,
    path: &str,
    endpoint: &str,
    form: &[(&str, &str)],
) -> Result<Value, DeviceError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::new("POST", &format!("{path}/{endpoint}"));
    read(client.fetch(&request.body(FORM, body)).await?)
}

fn read(answer: Answer) -> Result<Value, DeviceError> {
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

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?} {})", self.id, self.signer.kid())
    }
}
