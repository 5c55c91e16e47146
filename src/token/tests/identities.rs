//! Identities: each kind of claims, and the resulting identity or refusal.

use rstest::rstest;
use serde_json::{Value, json};

use super::forge::*;
use crate::denial::Denial;
use crate::purpose::Purpose;
use crate::token::Identity;

const USER: &str = "99999999-2222-4333-8444-555555555555";

/// Device, user and purpose, as text.
fn summary(identity: &Identity) -> String {
    let or_none = |o: &Option<String>| o.clone().unwrap_or("-".into());
    format!("{} {} {}", or_none(&identity.device), or_none(&identity.user), identity.purpose)
}

fn reads(claims: &Value) -> Result<String, Denial> {
    check(&rs256(claims)).map(|i| summary(&i)).map_err(|r| r.denial)
}

fn user(changes: Value) -> Value {
    let mut claims =
        entra(json!({ "idtyp": null, "deviceid": null, "sub": "pairwise", "oid": USER,
        "scp": "user_impersonation", "upn": "alice@contoso.com", "appid": TENANT }));
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    claims
}

#[test]
fn an_entra_device_is_one_with_and_without_the_optional_claim() {
    let device = Ok(format!("{ENTRA_DEVICE} - client"));
    assert_eq!(reads(&entra(json!({}))), device);
    assert_eq!(reads(&entra(json!({ "idtyp": null }))), device);
    assert_eq!(reads(&entra(json!({ "sub": "pairwise" }))), device, "idtyp says so");
    assert_eq!(reads(&entra(json!({ "deviceid": ENTRA_DEVICE.to_uppercase() }))), device);
    let v2 = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
    assert_eq!(reads(&entra(json!({ "iss": v2, "ver": "2.0" }))), device);
}

#[test]
fn an_entra_user_is_one_and_may_bring_a_device() {
    assert_eq!(reads(&user(json!({}))), Ok(format!("- {USER} client")));
    assert_eq!(
        reads(&user(json!({ "idtyp": "user", "scp": null }))),
        Ok(format!("- {USER} client"))
    );
    assert_eq!(reads(&user(json!({ "oid": null }))), Ok("- pairwise client".into()));
    let both = user(json!({ "deviceid": ENTRA_DEVICE }));
    assert_eq!(reads(&both), Ok(format!("{ENTRA_DEVICE} {USER} client")));
}

#[rstest]
#[case::application(json!({ "idtyp": "app", "roles": ["x"], "deviceid": null }), Denial::TokenPurpose)]
#[case::application_without_idtyp(json!({ "idtyp": null, "roles": ["x"], "deviceid": null }), Denial::TokenPurpose)]
#[case::application_with_a_device(json!({ "idtyp": null, "roles": ["x"] }), Denial::TokenPurpose)]
#[case::neither(json!({ "idtyp": null, "deviceid": null }), Denial::TokenPurpose)]
#[case::a_device_that_is_not_the_subject(json!({ "idtyp": null, "sub": USER }), Denial::TokenPurpose)]
#[case::a_person_without_scp(json!({ "idtyp": null, "upn": "a@b" }), Denial::TokenPurpose)]
#[case::empty_scp(json!({ "idtyp": null, "scp": "", "sub": USER }), Denial::TokenPurpose)]
#[case::unknown_idtyp(json!({ "idtyp": "workload" }), Denial::TokenPurpose)]
#[case::idtyp_no_text(json!({ "idtyp": ["device"] }), Denial::TokenClaims)]
#[case::device_without_deviceid(json!({ "deviceid": null }), Denial::TokenClaims)]
#[case::deviceid_no_guid(json!({ "deviceid": "x\r\nSitegate-User: root" }), Denial::TokenClaims)]
#[case::deviceid_no_text(json!({ "deviceid": 1 }), Denial::TokenClaims)]
#[case::other_tenant(json!({ "tid": USER }), Denial::TokenTenant)]
#[case::no_tenant(json!({ "tid": null }), Denial::TokenTenant)]
#[case::no_ver(json!({ "ver": null }), Denial::TokenType)]
#[case::id_token(json!({ "nonce": "n" }), Denial::TokenType)]
#[case::id_token_that_is_a_jwt(json!({ "nonce": "n", "typ": "JWT" }), Denial::TokenType)]
#[case::id_token_of_keycloak(json!({ "nonce": "n", "typ": "ID" }), Denial::TokenType)]
#[case::id_token_of_cognito(json!({ "nonce": "n", "token_use": "id" }), Denial::TokenType)]
#[case::id_token_in_disguise(json!({ "nonce": "n", "typ": "Bearer", "token_use": "id" }), Denial::TokenType)]
#[case::id_token_with_its_hash(json!({ "nonce": "n", "typ": "Bearer", "at_hash": "h" }), Denial::TokenType)]
#[case::nonce_and_typ_no_text(json!({ "nonce": "n", "typ": ["Bearer"] }), Denial::TokenClaims)]
#[case::id_token_hash(json!({ "at_hash": "n" }), Denial::TokenType)]
#[case::logout_token(json!({ "events": {} }), Denial::TokenType)]
#[case::refresh_token(json!({ "typ": "Refresh" }), Denial::TokenType)]
#[case::id_by_use(json!({ "token_use": "id" }), Denial::TokenType)]
#[case::proof_of_possession(json!({ "cnf": { "jwk": {} } }), Denial::TokenType)]
#[case::two_proofs(json!({ "cnf": { "x5t#S256": "A".repeat(43), "jkt": "x" } }), Denial::TokenType)]
#[case::token_id_injection(json!({ "uti": "a\r\nb" }), Denial::TokenClaims)]
#[case::token_id_long(json!({ "uti": "a".repeat(257) }), Denial::TokenClaims)]
fn other_entra_tokens_do_not_pass(#[case] changes: Value, #[case] denial: Denial) {
    assert_eq!(reads(&entra(changes)), Err(denial));
}

#[test]
fn an_access_token_may_have_a_nonce_if_it_states_its_type() {
    let device = Ok(format!("{ENTRA_DEVICE} - client"));
    for says in
        [json!({ "typ": "Bearer" }), json!({ "typ": "at+JWT" }), json!({ "token_use": "access" })]
    {
        let mut claims = entra(json!({ "nonce": "n" }));
        claims.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
        assert_eq!(reads(&claims), device, "{says}");
    }
    // RFC 9068 §2.1: no identity token has this in its header.
    let claims = entra(json!({ "nonce": "n" })).to_string();
    for (typ, passes) in [("at+jwt", true), ("application/AT+JWT", true), ("JWT", false)] {
        let header = json!({ "alg": "RS256", "kid": "rsa", "typ": typ }).to_string();
        assert_eq!(check(&forge(header, &claims, &RS256)).is_ok(), passes, "{typ}");
    }
}

#[test]
fn an_entra_user_is_printable() {
    assert_eq!(reads(&user(json!({ "oid": "\u{e4}%" }))), Ok("- %C3%A4%25 client".into()));
    for oid in ["a\r\nX: y", "\u{85}", "", " a"] {
        assert_eq!(reads(&user(json!({ "oid": oid }))), Err(Denial::TokenClaims), "{oid:?}");
    }
}

#[rstest]
#[case("SCCMToken", "Device", json!({}), format!("{DEVICE} - client"))]
#[case("SCCMToken", "UDA", json!({ "UserId": USER }), format!("{DEVICE} {USER} client"))]
#[case("SCCMToken", "User", json!({ "UserId": USER, "sub": null }), format!("- {USER} client"))]
// The token service encoded the id when it made the token.
#[case("SCCMToken", "User", json!({ "UserId": "https://idp#J%C3%BC", "sub": null }), "- https://idp#J%C3%BC client".into())]
#[case("SCCMToken", "ContentAccess", json!({}), format!("{DEVICE} - content"))]
#[case("SCCMToken", "BootMedia", json!({}), format!("{DEVICE} - media"))]
#[case("SCCMToken", "TaskSequence", json!({}), format!("{DEVICE} - task-sequence"))]
#[case("SCCMPreAuthToken", "BulkRegistration", json!({ "sub": null }), "- - registration".into())]
// A registration token has no subject, and a device's token no user, even with other claims
// present.
#[case("SCCMPreAuthToken", "BulkRegistration", json!({ "UserId": USER }), "- - registration".into())]
#[case("SCCMToken", "Device", json!({ "UserId": USER }), format!("{DEVICE} - client"))]
#[case("SCCMToken", "Device", json!({ "sub": null, "DeviceId": DEVICE }), format!("{DEVICE} - client"))]
#[case("SCCMToken", "Device", json!({ "sub": DEVICE.to_lowercase() }), format!("{DEVICE} - client"))]
fn a_site_token_has_one_purpose(
    #[case] category: &str,
    #[case] kind: &str,
    #[case] changes: Value,
    #[case] expected: String,
) {
    let mut claims = site(changes);
    claims["SCCMTokenCategory"] = category.into();
    claims["Type"] = kind.into();
    assert_eq!(reads(&claims), Ok(expected));
}

#[rstest]
#[case::unknown_type(json!({ "Type": "Admin" }), Denial::TokenPurpose)]
#[case::case_matters(json!({ "Type": "device" }), Denial::TokenPurpose)]
#[case::mixed_up(json!({ "SCCMTokenCategory": "SCCMPreAuthToken" }), Denial::TokenPurpose)]
#[case::mixed_up_too(json!({ "Type": "BulkRegistration" }), Denial::TokenPurpose)]
#[case::no_category(json!({ "SCCMTokenCategory": null }), Denial::TokenPurpose)]
#[case::no_type(json!({ "Type": null }), Denial::TokenPurpose)]
#[case::category_no_text(json!({ "SCCMTokenCategory": 1 }), Denial::TokenClaims)]
#[case::no_handle(json!({ "UniqueId": null }), Denial::TokenClaims)]
#[case::no_device(json!({ "sub": null }), Denial::TokenClaims)]
#[case::device_injection(json!({ "sub": format!("{DEVICE}\r\nX: y") }), Denial::TokenClaims)]
#[case::device_no_guid(json!({ "sub": "alice" }), Denial::TokenClaims)]
#[case::user_not_printable(json!({ "Type": "UDA", "UserId": "\u{e4}" }), Denial::TokenClaims)]
#[case::two_devices(json!({ "DeviceId": "GUID:0A1B2C3D-0000-4000-8000-000000000010" }), Denial::TokenClaims)]
#[case::no_user(json!({ "Type": "UDA" }), Denial::TokenClaims)]
#[case::nil_user(json!({ "Type": "UDA", "UserId": "00000000-0000-0000-0000-000000000000" }), Denial::TokenClaims)]
#[case::other_hierarchy(json!({ "TenantId": USER }), Denial::TokenTenant)]
#[case::hierarchy_no_guid(json!({ "TenantId": "x" }), Denial::TokenTenant)]
fn other_site_tokens_do_not_pass(#[case] changes: Value, #[case] denial: Denial) {
    assert_eq!(reads(&site(changes)), Err(denial));
}

#[test]
fn the_handle_of_a_token_has_one_spelling() {
    let id = "6D1E1A40-1111-4222-8333-444444444444";
    for spelled in [id.to_owned(), id.to_lowercase(), format!("{{{id}}}"), id.replace('-', "")] {
        let identity = check(&rs256(&site(json!({ "UniqueId": spelled })))).unwrap();
        assert_eq!(identity.token_id, Some(id.to_lowercase()));
    }
}

#[test]
fn a_bulk_registration_token_is_for_registration_only() {
    // The claims of Microsoft's sample, with its times moved to these tests': no kid, iat, jti or
    // sub.
    let claims = json!({ "SCCMTokenCategory": "SCCMPreAuthToken", "Authority": "SCCM",
        "License": "SCCM", "Type": "BulkRegistration",
        "TenantId": HIERARCHY.to_string().to_uppercase(),
        "UniqueId": "2e3f6b1c-5555-4666-8777-888888888888", "iss": ISS_SITE,
        "aud": "urn:sccm:service", "exp": NOW_S + 259_200, "nbf": NOW_S });
    let header = r#"{"typ":"JWT","alg":"ES256","x5t":"p256-x5t"}"#;
    let identity = check(&forge(header, claims.to_string(), &Sign::P256)).unwrap();
    assert_eq!(identity.purpose, Purpose::Registration);
    assert!(!identity.is_device() && !identity.is_user());
    assert_eq!(identity.token_id.as_deref(), Some("2e3f6b1c-5555-4666-8777-888888888888"));
}

#[test]
fn an_oidc_token_is_who_the_configured_claims_say() {
    let oidc = |changes: Value| {
        let mut claims = json!({ "iss": "https://id.example", "aud": "mp", "exp": NOW_S + 600,
            "iat": NOW_S, "sub": "service-7", "jti": "j" });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        reads(&claims)
    };
    assert_eq!(oidc(json!({})), Err(Denial::TokenPurpose), "sub names nobody by itself");
    assert_eq!(oidc(json!({ "deviceid": "x" })), Err(Denial::TokenPurpose));
    assert_eq!(oidc(json!({ "email": "a@b" })), Ok("- a@b client".into()));
    assert_eq!(oidc(json!({ "device_id": "d1" })), Ok("d1 - client".into()));
    assert_eq!(oidc(json!({ "device_id": "d1", "email": "a@b" })), Ok("d1 a@b client".into()));
    assert_eq!(oidc(json!({ "email": "J\u{fc}rgen@b" })), Ok("- J%C3%BCrgen@b client".into()));
    assert_eq!(oidc(json!({ "email": "J%C3%BCrgen@b" })), Ok("- J%25C3%25BCrgen@b client".into()));
    assert_eq!(oidc(json!({ "device_id": "\u{20ac}1" })), Ok("%E2%82%AC1 - client".into()));
    assert_eq!(oidc(json!({ "email": "a\nb" })), Err(Denial::TokenClaims));
    assert_eq!(oidc(json!({ "email": ["a@b"] })), Err(Denial::TokenClaims));
    assert_eq!(oidc(json!({ "email": "a@b", "at_hash": "x" })), Err(Denial::TokenType));
}

#[test]
fn a_bound_token_names_its_certificate() {
    let hash = "A".repeat(43);
    let identity = check(&rs256(&site(json!({ "cnf": { "x5t#S256": hash } })))).unwrap();
    assert_eq!(identity.bound_to, Some(hash));
    assert_eq!(reads(&site(json!({ "cnf": "x" }))), Err(Denial::TokenClaims));
    assert_eq!(reads(&site(json!({ "cnf": {} }))), Err(Denial::TokenType));
}
