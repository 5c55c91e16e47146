//! The site's store, with both databases: each rule is a scenario, and each scenario runs with
//! both.

mod approving;
mod blocking;
mod durable;
mod failing;
mod following;
mod gateways;
mod granting;
mod places;
mod recovering;
mod registering;
mod rivals;

use std::path::PathBuf;

use jiff::Timestamp;
use sitegate::purpose::Purpose;
use sitegate::site::store::{
    Approval, Device, Grant, PostgresUrl, RegisterError, Registered, Registration, Store,
    StorePlace, TokenRef, Via,
};
use uuid::Uuid;

use crate::support::Postgres;

pub const ISSUER: &str = "https://mp.contoso.com/sitegate/oauth2";
pub const ENTRA: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

/// The database.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Sqlite,
    Pg,
}

/// A place for stores, removed with the test.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub server: Option<Postgres>,
}

impl Home {
    pub fn new(kind: Kind) -> Home {
        let server = match kind {
            Kind::Sqlite => None,
            Kind::Pg => Some(Postgres::start()),
        };
        Home { dir: tempfile::tempdir().unwrap(), server }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("store/site.db")
    }

    pub fn place(&self) -> StorePlace {
        match &self.server {
            None => StorePlace::Sqlite(self.file()),
            Some(server) => StorePlace::Postgres(PostgresUrl::parse(&server.url()).unwrap()),
        }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.place(), at(0)).await.unwrap()
    }
}

/// A time, in seconds after the start of the scenario.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// An unused device id.
pub fn fresh() -> &'static str {
    let id = format!("GUID:{}", Uuid::new_v4().hyphenated()).to_uppercase();
    Box::leak(id.into_boxed_str())
}

/// A registration of a key, for a new device that needs no approval.
pub fn with_key(thumbprint: &str) -> Registration<'_> {
    Registration {
        thumbprint,
        jwk: r#"{"kty":"EC"}"#,
        claimed: None,
        proven_by: None,
        via: Via::BulkToken,
        token: None,
        uses_max: None,
        entra: None,
        certificate: None,
        fresh_id: fresh(),
        approve: true,
        accept_claims: false,
        address: Some([192, 0, 2, 7].into()),
        client: None,
        returning: false,
        now: at(1),
    }
}

/// A registration token.
pub fn bulk(id: &str) -> Option<TokenRef<'_>> {
    Some(TokenRef { issuer: ISSUER, id, issued: None })
}

pub async fn register(store: &Store, r: &Registration<'_>) -> Result<Registered, RegisterError> {
    store.register(r, "a client").await
}

/// Registers a device, which must be approved at once.
pub async fn enrolled(store: &Store, r: &Registration<'_>) -> Device {
    match register(store, r).await {
        Ok(Registered::New(device)) => device,
        other => panic!("{other:?}"),
    }
}

/// An approval of a specific key.
pub fn named(key: &str) -> Approval<'_> {
    Approval { key, alone: false, keep: false }
}

/// A client token to be issued.
pub fn client_token(device: Option<&str>) -> Grant<'_> {
    Grant {
        id: Uuid::new_v4(),
        issuer: ISSUER,
        purpose: Purpose::Client,
        device,
        user: None,
        audience: "urn:site",
        issued: at(10),
        expires: at(3610),
        bound_to: None,
        scope: None,
        uses_max: None,
        proof: None,
        subject_token: None,
        renews: false,
    }
}

/// The thumbprints of a device's keys. Pending ones have a question mark.
pub fn keys(device: &Device) -> String {
    let shown = |k: &sitegate::site::store::DeviceKey| {
        format!("{}{}", k.thumbprint, if k.active { "" } else { "?" })
    };
    device.keys.iter().map(shown).collect::<Vec<_>>().join(" ")
}
