//! Which denials observing relaxes, each of them.

use super::*;
use crate::route::token_service;

/// What stays refused however a site system judges.
const STAYS: &[&str] = &[
    "certificate.revoked",
    "token.blocked",
    "device.blocked",
    "user.blocked",
    "route.denied",
    "route.alt_auth",
    "route.alt_auth_network",
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
fn what_is_about_the_token_or_the_route_alone_is_relaxed_and_nothing_else_is() {
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
fn guarded_namespaces_of_every_role_are_claimed_in_any_spelling_and_below() {
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
fn observing_ends_at_its_time_and_a_clock_set_back_does_not_prolong_it() {
    let until = ObserveUntil(crate::clock::second(100 * 86_400));
    for (now, holds) in [(99 * 86_400, true), (100 * 86_400 - 1, true), (10 * 86_400, true)] {
        assert_eq!(until.holds(crate::clock::second(now)), holds, "{now}");
    }
    for now in [100 * 86_400, 100 * 86_400 + 1, 10 * 86_400 - 1, 0] {
        assert!(!until.holds(crate::clock::second(now)), "{now}");
    }
}
