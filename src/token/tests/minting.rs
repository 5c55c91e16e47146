//! Signed tokens verify, for each purpose and each kind of signing key.

use std::sync::LazyLock;

use serde_json::{Value, json};
use uuid::Uuid;

use super::forge::*;
use crate::purpose::Purpose;
use crate::token::*;

const ID: Uuid = Uuid::from_u128(7);

static SIGNERS: LazyLock<Vec<TokenSigner>> = LazyLock::new(|| {
    let make = |kind| TokenSigner::from_pkcs8(&TokenSigner::generate(kind).unwrap(), None).unwrap();
    vec![make(SignerKind::P256), make(SignerKind::Rsa2048)]
});

fn request(purpose: Purpose) -> MintRequest<'static> {
    MintRequest {
        purpose,
        device: (purpose != Purpose::Registration).then_some(DEVICE),
        user: None,
        audience: "urn:sccm:service",
        issuer: "https://site.example/token",
        hierarchy: HIERARCHY,
        lifetime_s: None,
        bound_to: None,
        scope: None,
        origins: &[],
        id: ID,
    }
}

fn accept(token: &str) -> Result<Identity, Refusal> {
    let set = jwks(&*SIGNERS).to_string();
    let (set, problems) = KeySet::parse(&[("own", set.as_bytes())]);
    assert_eq!(problems, []);
    let (_keep, keys) = crate::live::live(set);
    let issuer = Issuer::site("own", Some(HIERARCHY), vec!["https://site.example/token".into()]);
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    verify(&token, &[Trusted { issuer: issuer.into(), keys }], now()).map(|v| v.identity().clone())
}

#[test]
fn what_is_minted_is_accepted_for_its_purpose() {
    for signer in &*SIGNERS {
        for purpose in Purpose::ALL {
            let identity = accept(&signer.mint(&request(purpose), now()).unwrap()).unwrap();
            assert_eq!(identity.purpose, purpose);
            assert_eq!(identity.device.as_deref(), request(purpose).device);
            assert_eq!(identity.token_id, Some(ID.to_string()));
        }
        let both = MintRequest { user: Some("alice"), ..request(Purpose::Client) };
        let identity = accept(&signer.mint(&both, now()).unwrap()).unwrap();
        assert!(identity.is_device() && identity.user.as_deref() == Some("alice"));
        let alone = MintRequest { device: None, ..both };
        let identity = accept(&signer.mint(&alone, now()).unwrap()).unwrap();
        assert!(!identity.is_device() && identity.is_user());
    }
}

#[test]
fn the_envelope_is_configuration_managers() {
    let token = SIGNERS[0].mint(&request(Purpose::Registration), now()).unwrap();
    let mut parts = token.split('.').map(|s| text::base64url(s).unwrap());
    let header: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let claims = String::from_utf8(parts.next().unwrap()).unwrap();
    assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256", "kid": SIGNERS[0].kid() }));
    assert_eq!(
        claims,
        format!(
            concat!(
                r#"{{"SCCMTokenCategory":"SCCMPreAuthToken","Authority":"SCCM","License":"SCCM","#,
                r#""Type":"BulkRegistration","TenantId":"CDCC5E91-0000-4000-8000-000000000000","#,
                r#""UniqueId":"{id}","iss":"https://site.example/token","aud":"urn:sccm:service","#,
                r#""exp":{exp},"nbf":{now},"iat":{now},"jti":"{id}"}}"#
            ),
            id = ID,
            now = NOW_S,
            exp = NOW_S + 259_200,
        )
    );
}

#[test]
fn a_token_lives_as_long_as_its_purpose_allows() {
    let hash = "A".repeat(43);
    for purpose in Purpose::ALL {
        for bound_to in [None, Some(hash.as_str())] {
            let (usual, max_s) = lifetime_s(purpose, bound_to.is_some());
            assert!(usual <= max_s);
            let mint = |lifetime_s| {
                let request = MintRequest { lifetime_s, bound_to, ..request(purpose) };
                SIGNERS[0].mint(&request, now()).map(|token| accept(&token).unwrap())
            };
            assert_eq!(mint(None).unwrap().bound_to.as_deref(), bound_to);
            assert!(mint(Some(max_s)).is_ok());
            for lifetime_s in [max_s + 1, 0, -1, i64::MIN, i64::MAX] {
                assert_eq!(mint(Some(lifetime_s)), Err(MintError::Lifetime { max_s }));
            }
        }
    }
}

#[test]
fn what_could_not_be_verified_is_not_minted() {
    use Purpose::{Client, Content, Media, Registration};
    let mint = |request: MintRequest<'_>| SIGNERS[0].mint(&request, now()).unwrap_err();
    for purpose in [Client, Content, Media] {
        assert_eq!(mint(MintRequest { device: None, ..request(purpose) }), MintError::Device);
        for device in ["", "x", "GUID:x", "GUID:0A1B2C3D-0000-4000-8000-00000000000F\r\n"] {
            let device = Some(device);
            assert_eq!(mint(MintRequest { device, ..request(purpose) }), MintError::Device);
        }
    }
    assert_eq!(
        mint(MintRequest { device: Some(DEVICE), ..request(Registration) }),
        MintError::Device
    );
    for (purpose, user) in [(Client, "a\nb"), (Client, ""), (Content, "alice")] {
        assert_eq!(mint(MintRequest { user: Some(user), ..request(purpose) }), MintError::User);
    }
    assert_eq!(mint(MintRequest { issuer: "", ..request(Client) }), MintError::Envelope);
    assert_eq!(mint(MintRequest { audience: "", ..request(Client) }), MintError::Envelope);
    assert_eq!(mint(MintRequest { bound_to: Some("x"), ..request(Client) }), MintError::Envelope);
}

#[test]
fn a_signer_is_made_of_a_strong_key_and_its_own_certificate() {
    use base64::Engine as _;
    assert_eq!(TokenSigner::from_pkcs8(b"", None).unwrap_err(), MintError::Key);
    assert_eq!(TokenSigner::from_pem(b"", None).unwrap_err(), MintError::Key);
    let p384 = P384.to_pkcs8v1().unwrap();
    assert_eq!(TokenSigner::from_pkcs8(p384.as_ref(), None).unwrap_err(), MintError::Key);
    let key = TokenSigner::generate(SignerKind::P256).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    let result = TokenSigner::from_pkcs8(&key, Some(other.cert.der()));
    assert_eq!(result.unwrap_err(), MintError::Certificate);
    assert_eq!(TokenSigner::from_pkcs8(&key, Some(b"x")).unwrap_err(), MintError::Certificate);
    let text = base64::engine::general_purpose::STANDARD.encode(&*key);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let signer = TokenSigner::from_pem(pem.as_bytes(), None).unwrap();
    assert_eq!(signer.kid(), TokenSigner::from_pkcs8(&key, None).unwrap().kid());
    assert!(!format!("{signer:?} {}", signer.jwk()).contains("\"d\""));
}

#[test]
fn minted_tokens_interoperate_with_another_library() {
    use jsonwebtoken::{Algorithm as Alg, DecodingKey, EncodingKey, Header, Validation};
    let alg = |i| if i == 0 { Alg::ES256 } else { Alg::RS256 };
    for (i, signer) in SIGNERS.iter().enumerate() {
        let token = signer.mint(&request(Purpose::Client), now()).unwrap();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.jwk()).unwrap();
        let mut rules = Validation::new(alg(i));
        rules.set_audience(&["urn:sccm:service"]);
        rules.validate_exp = false;
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let read = jsonwebtoken::decode::<Value>(token.as_bytes(), &key, &rules).unwrap();
        assert_eq!(read.claims["sub"], DEVICE);
    }
    let pkcs8 = P256.to_pkcs8v1().unwrap();
    let header = Header { kid: Some("p256".into()), ..Header::new(Alg::ES256) };
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let token = jsonwebtoken::encode(&header, &site(json!({})), &key).unwrap();
    assert_eq!(check(&token).unwrap().device.as_deref(), Some(DEVICE));
}

#[test]
fn a_token_laid_open_shows_everything_but_its_signature() {
    let good = rs256(&site(json!({ "note": "\u{202e}\u{1b}[31m\u{9b}" })));
    let shown = inspect(format!(" {good}\n").as_bytes(), &TRUSTED, &Blocklist::default(), now());
    let text = format!("{shown}{}", serde_json::to_string(&shown).unwrap());
    assert!(!text.contains(good.rsplit('.').next().unwrap()));
    let plain = shown.to_string();
    assert!(plain.contains("accepted  client token of site") && plain.contains(DEVICE));
    assert!(plain.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{plain}");
    assert!(plain.contains("exp       20"), "times are dates: {plain}");

    let expired = rs256(&site(json!({ "exp": NOW_S - 1000 })));
    assert!(
        inspect(expired.as_bytes(), &TRUSTED, &Blocklist::default(), now())
            .to_string()
            .contains("token.expired")
    );
    let nobody = inspect(good.as_bytes(), &[], &Blocklist::default(), now());
    assert_eq!(nobody.refused.unwrap().code, "token.issuer");
    for rubbish in [&b""[..], b"\xff", b"a.b", b"....", b"not a token", &[b'.'; 5000]] {
        let shown = inspect(rubbish, &TRUSTED, &Blocklist::default(), now());
        assert!(shown.accepted.is_none() && shown.to_string().contains("not readable"));
    }
}
