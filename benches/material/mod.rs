//! The inputs of the benches of the pure modules: a request as clients send it, tokens, a long
//! blocklist.

#![allow(dead_code, reason = "each bench takes what it needs")]
#![expect(clippy::expect_used, reason = "a bench that cannot be set up shall stop")]

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use sitegate::live::{Publisher, live};
use sitegate::purpose::Purpose;
use sitegate::route::{CanonicalPath, Role, RouteTable, preset};
use sitegate::token::{
    BearerToken, Blocklist, Identity, Issuer, KeySet, MintRequest, SignerKind, TokenSigner,
    Trusted, jwks,
};
use uuid::Uuid;

/// A request's head.
pub const HEAD: &[u8] = b"GET /SMS_DP_SMSPKG$/PS100012/sub%20dir/setup.exe HTTP/1.1\r\n\
Host: dp01.contoso.com\r\nUser-Agent: SMS CCM 5.0 TS\r\nAccept: */*\r\nRange: bytes=0-1048575\r\n\
Authorization: Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl\r\n\r\n";

/// The head of its response.
pub const ANSWER: &[u8] = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1048576\r\n\
Content-Type: application/octet-stream\r\nContent-Range: bytes 0-1048575/67108864\r\n\
Last-Modified: Tue, 01 Sep 2026 08:00:00 GMT\r\nAccept-Ranges: bytes\r\n\
ETag: \"8d0fa5f1c2bdc1:0\"\r\nServer: Microsoft-IIS/10.0\r\n\
Date: Wed, 25 Nov 2026 08:00:00 GMT\r\n\r\n";

/// A request's target.
pub const TARGET: &[u8] = b"/SMS_DP_SMSPKG$/PS100012/sub%20dir/setup.exe?x=1";

const DEVICE: &str = "GUID:0A1B2C3D-0000-4000-8000-00000000000F";

/// The routes of all roles, and the path of a target among them.
pub fn routes() -> (RouteTable, CanonicalPath) {
    let routes = Role::ALL.into_iter().flat_map(preset).collect();
    let path = CanonicalPath::parse(TARGET, 16 * 1024).expect("a path");
    (RouteTable::new(Vec::new(), routes), path)
}

/// A token of each algorithm, and the trust in their issuer.
pub struct Tokens {
    /// ECDSA on P-256.
    pub es256: String,
    /// RSA-2048.
    pub rs256: String,
    /// Their issuer.
    pub trusted: [Trusted; 1],
    /// The issuer name that a site system accepts.
    pub allowed: BTreeSet<Arc<str>>,
    /// A time at which they are valid.
    pub now: Timestamp,
    _keys: Publisher<KeySet>,
}

/// Creates them.
pub fn tokens() -> Tokens {
    let now = Timestamp::from_second(1_790_000_000).expect("a time");
    let signers = [SignerKind::P256, SignerKind::Rsa2048].map(|kind| {
        let key = TokenSigner::generate(kind).expect("a key");
        TokenSigner::from_pkcs8(&key, None).expect("a signer")
    });
    let set = jwks(&signers).to_string();
    let (publisher, keys) = live(KeySet::parse(&[("own", set.as_bytes())]).0);
    let issuer = Arc::new(Issuer::site("site", None, vec!["https://site.example".to_owned()]));
    let request = MintRequest {
        purpose: Purpose::Client,
        device: Some(DEVICE),
        user: None,
        audience: "urn:sccm:service",
        issuer: "https://site.example",
        hierarchy: Uuid::from_u128(1),
        lifetime_s: None,
        bound_to: None,
        scope: None,
        origins: &[],
        id: Uuid::from_u128(2),
    };
    let [es256, rs256] =
        signers.each_ref().map(|signer| signer.mint(&request, now).expect("a token"));
    let trusted = [Trusted { issuer, keys }];
    Tokens { es256, rs256, trusted, allowed: [Arc::from("site")].into(), now, _keys: publisher }
}

/// The token as found in a request.
pub fn bearer(token: &str) -> BearerToken<'_> {
    BearerToken::parse(token.as_bytes()).expect("a token")
}

/// The text of a blocklist with a hundred thousand entries.
pub fn long_blocklist() -> String {
    let two = |n: u128| {
        let (token, device) = (Uuid::from_u128(n), Uuid::from_u128(!n));
        format!("[[block]]\nissuer='site'\ntoken='{token}'\n[[block]]\ndevice='{device}'\n")
    };
    (0..50_000).map(two).collect()
}

/// That list, and an identity that is not on it.
pub fn blocklist() -> (Blocklist, Identity) {
    let who = Identity {
        device: Some(DEVICE.to_owned()),
        user: None,
        issuer: "site".into(),
        token_id: Some("0a1b2c3d-0000-4000-8000-00000000000f".to_owned()),
        purpose: Purpose::Client,
        bound_to: None,
        scopes: [].into(),
        origins: [].into(),
    };
    (Blocklist::parse(long_blocklist().as_bytes()).expect("a list"), who)
}
