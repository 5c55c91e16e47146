//! Client registration (RFC 7591): checks the client's credential, records its key, assigns an id.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::caller::Caller;
use super::grant::has_lapsed;
use super::proof::by_keys;
use super::refused::ServiceRefusal;
use super::{Granted, RivalClaim, TokenServing, away};
use crate::denial::Denial;
use crate::grant_denial::GrantDenial;
use crate::purpose::Purpose;
use crate::site::store::{Device, RegisterError, Registered, Registration, TokenRef, Via};
use crate::token::{Assertion, ClientMetadata, IssuerKind};

/// The credential that vouches for a registration.
struct Voucher {
    via: Via,
    /// Whether it is one of the site's own tokens.
    is_own: bool,
    /// The bulk token: its `iss`, its id, and its time of issue.
    token: Option<(String, String, Option<Timestamp>)>,
    /// The Entra device.
    entra: Option<String>,
    /// The client certificate.
    certificate: Option<String>,
}

impl Voucher {
    /// The actor in the audit log.
    fn actor(&self) -> String {
        match (&self.token, &self.entra, &self.certificate) {
            (Some((_, id, _)), ..) => format!("bulk token {id}"),
            (None, Some(id), _) => format!("Entra device {id}"),
            (None, None, Some(x5t)) => format!("certificate {x5t}"),
            (None, None, None) => "-".to_owned(),
        }
    }
}

pub(super) async fn register(
    serving: &TokenServing,
    caller: &Caller,
    body: &[u8],
) -> Result<Granted, ServiceRefusal> {
    let service = &serving.service;
    let now = service.clock.now();
    let voucher = voucher(serving, caller, now)?;
    serving.limits.register(caller)?;
    let metadata = ClientMetadata::parse(body)
        .map_err(|(denial, detail)| ServiceRefusal::of(denial, detail))?;
    let proven_by = former_key(serving, &metadata, now).await?;
    // A repeated registration is a retry, unless the device has lapsed: the same response would
    // then be useless to it.
    let known = service.store.device_by_key(metadata.key.thumbprint()).await.map_err(away)?;
    let returning = match &known {
        // A key that only waits for approval does not end a lapse.
        Some(device) if device.has_active(metadata.key.thumbprint()) => {
            has_lapsed(serving, device, now).await?
        }
        _ => false,
    };
    let fresh_id = format!("GUID:{}", Uuid::new_v4().hyphenated().to_string().to_ascii_uppercase());
    let registration = Registration {
        thumbprint: metadata.key.thumbprint(),
        jwk: &metadata.key.jwk(),
        claimed: metadata.device.as_deref(),
        proven_by: proven_by.as_deref(),
        via: voucher.via,
        token: voucher.token.as_ref().map(|(issuer, id, issued)| TokenRef {
            issuer,
            id,
            issued: *issued,
        }),
        // The site's own token has a record. If it is missing, a restored store has lost it, and
        // its number of uses is unknown.
        uses_max: voucher.is_own.then_some(0),
        entra: voucher.entra.as_deref(),
        certificate: voucher.certificate.as_deref(),
        fresh_id: &fresh_id,
        approve: service.params.approval_automatic,
        accept_claims: service.params.claims_accepted,
        address: caller.address,
        client: metadata.name.as_deref(),
        returning,
        now,
    };
    let actor = voucher.actor();
    let about = metadata.device.as_deref().unwrap_or(metadata.key.thumbprint());
    let registered = service.store.register(&registration, &actor).await.map_err(|error| {
        let refused = match error {
            RegisterError::Blocked => GrantDenial::DeviceBlocked.into(),
            RegisterError::KeyOfAnother => GrantDenial::RegistrationClaim.into(),
            RegisterError::Crowded => {
                (service.on_rival)(RivalClaim::Refused);
                GrantDenial::RegistrationRivals.into()
            }
            RegisterError::TokenBlocked => GrantDenial::RegistrationTokenBlocked.into(),
            RegisterError::TokenUsedUp => GrantDenial::RegistrationTokenUsedUp.into(),
            RegisterError::Store(error) => away(error),
        };
        refused.about(about)
    })?;
    Ok(match registered {
        Registered::New(device) => answer(StatusCode::CREATED, &device, &metadata, "registered"),
        Registered::Known(device) => {
            answer(StatusCode::CREATED, &device, &metadata, "registered again")
        }
        Registered::Pending(device) => {
            answer(StatusCode::CREATED, &device, &metadata, "waits for approval")
        }
        Registered::Rival(device) => {
            (service.on_rival)(RivalClaim::Waits);
            tracing::warn!(target: "sitegate::token_service", client = caller.shown(),
                device = device.id, key = metadata.key.thumbprint(), voucher = actor,
                "a key claims to be a device that has other keys, and waits for approval");
            answer(StatusCode::CREATED, &device, &metadata, "waits for approval, beside others")
        }
    })
}

/// The credential: a bulk registration token, the device's own Entra token, or a trusted client
/// certificate. If a token is invalid, the certificate is not tried, so that the client learns of
/// the invalid token.
fn voucher(
    serving: &TokenServing,
    caller: &Caller,
    now: Timestamp,
) -> Result<Voucher, ServiceRefusal> {
    let Some(bearer) = &caller.bearer else {
        let certificate = caller.good.clone().ok_or(GrantDenial::RegistrationUnproven)?;
        let via = Via::Certificate;
        return Ok(Voucher {
            via,
            is_own: false,
            token: None,
            entra: None,
            certificate: Some(certificate),
        });
    };
    let refused =
        |denial: Denial| ServiceRefusal::of(GrantDenial::RegistrationToken, denial.code());
    let verified = serving.verified(caller, bearer.reveal(), now);
    let verified = verified.map_err(|refusal| refused(refusal.denial))?;
    let who = verified.identity();
    serving.not_blocked(&verified).map_err(|refused| match refused.denial {
        GrantDenial::DeviceBlocked => refused,
        _ => ServiceRefusal { denial: GrantDenial::RegistrationTokenBlocked, ..refused },
    })?;
    if who.bound_to.is_some() && who.bound_to != caller.proven {
        return Err(GrantDenial::SubjectBinding.into());
    }
    let issued = verified.issued().and_then(|at| Timestamp::from_second(at).ok());
    match (&verified.issuer().kind, who.purpose, &who.device, &who.user) {
        (IssuerKind::Site { .. }, Purpose::Registration, ..) => Ok(Voucher {
            via: Via::BulkToken,
            is_own: serving.is_own(&verified),
            token: who.token_id.clone().map(|id| (verified.iss().to_owned(), id, issued)),
            entra: None,
            certificate: caller.good.clone(),
        }),
        (IssuerKind::Entra { .. }, Purpose::Client, Some(device), None) => Ok(Voucher {
            via: Via::Entra,
            is_own: false,
            token: None,
            entra: Some(device.clone()),
            certificate: caller.good.clone(),
        }),
        _ => Err(GrantDenial::RegistrationPurpose.into()),
    }
}

/// The former key of the claimed device, proved by an assertion that names the new key: a stolen
/// assertion is then worthless for another key.
async fn former_key(
    serving: &TokenServing,
    metadata: &ClientMetadata,
    now: Timestamp,
) -> Result<Option<String>, ServiceRefusal> {
    let (Some(claimed), Some(proof)) = (&metadata.device, &metadata.proof) else {
        return Ok(None);
    };
    let refused = |why| ServiceRefusal::of(GrantDenial::RegistrationProof, why).about(claimed);
    let assertion = Assertion::parse(proof).map_err(|_| refused("not well-formed"))?;
    if assertion.client() != claimed {
        return Err(refused("of another device"));
    }
    let device: Option<Device> = serving.service.store.device(claimed).await.map_err(away)?;
    // An unknown device and a wrong key get the same response.
    let device = device.ok_or_else(|| refused("not by a key of the device"))?;
    let keys = device.keys.iter().filter(|key| key.active);
    for key in keys {
        match by_keys(std::iter::once(key), &assertion, &serving.audiences(), now) {
            Ok(asserted) if asserted.for_key.as_deref() == Some(metadata.key.thumbprint()) => {
                return Ok(Some(key.thumbprint.clone()));
            }
            Ok(_) => return Err(refused("jkt is not the new key's thumbprint")),
            Err(GrantDenial::AssertionSignature) => {}
            Err(denial) => return Err(refused(denial.code())),
        }
    }
    Err(refused("not by a key of the device"))
}

/// The client information response (RFC 7591 §3.2.1).
fn answer(status: StatusCode, device: &Device, metadata: &ClientMetadata, told: &str) -> Granted {
    let jwk: serde_json::Value = serde_json::from_str(&metadata.key.jwk()).unwrap_or_default();
    let is_active =
        |thumbprint: &str| device.keys.iter().any(|key| key.active && key.thumbprint == thumbprint);
    let approved = device.approved && is_active(metadata.key.thumbprint());
    let mut body = json!({
        "client_id": device.id,
        "client_id_issued_at": device.registered.as_second(),
        "device_id": device.id,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": metadata.key.algorithm().name(),
        "grant_types":
            ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
        "response_types": [],
        "jwks": { "keys": [jwk] },
        "approved": approved,
    });
    if let (Some(name), Some(members)) = (&metadata.name, body.as_object_mut()) {
        members.insert("client_name".to_owned(), name.clone().into());
    }
    let via = device.via.as_str();
    let name = metadata.name.as_deref().unwrap_or("-");
    let told = format!("{told}: {} by {via}, key {}, {name}", device.id, metadata.key.thumbprint());
    Granted { status, body, told }
}
