//! The denials that observe mode relaxes, one by one.

use super::*;
use crate::config::ObserveUntil;
use crate::route::{RouteTable, guarded, token_service};

/// Denials that stay in force in every mode.
const STAYS: &[&str] = &[
    "certificate.revoked",
    "token.blocked",
    "device.blocked",
    "user.blocked",
    "route.denied",
    "route.alt_auth",
    "route.alt_auth_network",
    "route.destination",
    "route.windows_auth",
    "route.websocket",
    "message.malformed",
    "message.payload",
    "message.source_id",
    "message.endpoint",
    "message.device",
    "gateway.internal",
];

#[test]
fn only_denials_about_identity_or_route_are_relaxed() {
    for denial in Denial::ALL {
        let (room, _) = denial.code().split_once('.').unwrap();
        let relaxed = match room {
            "token" | "device" | "user" | "certificate" | "route" | "message" => {
                !STAYS.contains(&denial.code())
            }
            "framing" | "limit" | "host" | "path" | "clear" | "upstream" | "site" | "gateway" => {
                false
            }
            other => panic!("a room of denials that nobody decided about: {other}"),
        };
        assert_eq!(is_relaxed(*denial), relaxed, "{denial}");
    }
}

#[test]
fn guarded_namespaces_are_claimed_in_any_spelling() {
    let guarded = guarded(&RouteTable::new(Vec::new(), token_service("/sitegate/oauth2")));
    let claims = |path: &str| guarded.claims(&CanonicalPath::parse(path.as_bytes(), 1024).unwrap());
    for path in [
        "/sitegate/oauth2",
        "/Sitegate/OAuth2/token/x",
        "/.well-known/oauth-authorization-server/sitegate/oauth2/x",
        "/CCM_System/request",
        "/ccm_system/request/x",
        "/SMS_MP_AltAuth/.sms_pol",
        "/CCM_System_AltAuth/request",
        "/CCM_System_WindowsAuth/request",
        "/AdminService/wmi/SMS_Site",
        "/NOCERT_SMS_DP_SMSPKG$/x",
    ] {
        assert!(claims(path), "{path}");
    }
    for path in ["/reports/", "/SMS_MP/.sms_pol?x", "/CCM_System_TokenAuth/request"] {
        assert!(!claims(path), "{path}");
    }
}

#[test]
fn observing_ends_on_time_even_if_the_clock_is_set_back() {
    let until = ObserveUntil(crate::clock::second(100 * 86_400));
    for (now, holds) in [(99 * 86_400, true), (100 * 86_400 - 1, true), (10 * 86_400, true)] {
        assert_eq!(until.holds(crate::clock::second(now)), holds, "{now}");
    }
    for now in [100 * 86_400, 100 * 86_400 + 1, 10 * 86_400 - 1, 0] {
        assert!(!until.holds(crate::clock::second(now)), "{now}");
    }
}
