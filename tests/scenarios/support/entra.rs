//! Simulates the tokens of Microsoft Entra: one tenant, one key, tokens of devices and users.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sitegate::clock::Clock;
use sitegate::token::{SignerKind, TokenSigner, jwks};

pub struct Entra {
    key: EncodingKey,
    signer: TokenSigner,
}

impl Entra {
    pub const TENANT: &'static str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    pub fn new() -> Entra {
        let der = TokenSigner::generate(SignerKind::P256).unwrap();
        let signer = TokenSigner::from_pkcs8(&der, None).unwrap();
        Entra { key: EncodingKey::from_ec_der(&der), signer }
    }

    /// The configuration section that trusts it.
    pub fn section() -> String {
        let tenant = Entra::TENANT;
        format!(
            "[[token_issuer]]\nname = \"entra\"\nkind = \"entra\"\ntenant = \"{tenant}\"\n\
             keys = \"entra.json\"\n"
        )
    }

    /// Its keys, for the file that the section names.
    pub fn keys(&self) -> String {
        jwks([&self.signer]).to_string()
    }

    /// A device's own token.
    pub fn device(&self, id: &str) -> String {
        self.token(json!({ "idtyp": "device", "deviceid": id, "sub": id }))
    }

    /// A user's token, optionally from a device.
    pub fn user(&self, oid: &str, device: Option<&str>) -> String {
        let claims = json!({ "scp": "user_impersonation", "oid": oid, "sub": "pairwise" });
        let mut claims = claims;
        if let Some(device) = device {
            claims["deviceid"] = device.into();
        }
        self.token(claims)
    }

    fn token(&self, more: Value) -> String {
        let now = Clock::system().now().as_second();
        let tenant = Entra::TENANT;
        let mut claims = json!({
            "iss": format!("https://sts.windows.net/{tenant}/"), "tid": tenant, "ver": "1.0",
            "aud": "https://ConfigMgrService", "iat": now - 60, "nbf": now - 60,
            "exp": now + 3600, "uti": uuid::Uuid::new_v4().simple().to_string(),
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header =
            Header { kid: Some(self.signer.kid().to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &self.key).unwrap()
    }
}
