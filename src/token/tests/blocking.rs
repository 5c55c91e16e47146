//! The blocklist: blocked tokens, tokens that pass, and invalid lists.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::forge::*;
use crate::denial::Denial;
use crate::token::*;

fn list(text: &str) -> Blocklist {
    Blocklist::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn judged(list: &Blocklist, token: &str) -> Option<Denial> {
    let parsed = BearerToken::parse(token.as_bytes()).unwrap();
    let verified = verify(&parsed, &TRUSTED, now()).unwrap();
    list.judge(verified.identity(), verified.issued()).err().map(|refusal| refusal.denial)
}

#[rstest]
// A token by its id, of one issuer only, in any spelling of a GUID.
#[case("issuer='site'\ntoken='6d1e1a40-1111-4222-8333-444444444444'", "TokenBlocked", "", "")]
#[case("issuer='site'\ntoken='{6D1E1A40-1111-4222-8333-444444444444}'", "TokenBlocked", "", "")]
#[case("issuer='site'\ntoken='6d1e1a401111422283334444444444440'", "", "", "")]
#[case("issuer='entra'\ntoken='6d1e1a40-1111-4222-8333-444444444444'", "", "", "")]
#[case("issuer='entra'\ntoken='abc'", "", "TokenBlocked", "")]
#[case("issuer='entra'\ntoken='ABC'", "", "", "")]
// A device, of one issuer or of all, in any spelling.
#[case("device='GUID:0A1B2C3D-0000-4000-8000-00000000000F'", "DeviceBlocked", "", "")]
#[case("device='guid:0a1b2c3d-0000-4000-8000-00000000000f'", "DeviceBlocked", "", "")]
#[case("device='0a1b2c3d-0000-4000-8000-00000000000f'", "DeviceBlocked", "", "")]
#[case("issuer='entra'\ndevice='0a1b2c3d-0000-4000-8000-00000000000f'", "", "", "")]
#[case("device='11111111-2222-4333-8444-555555555555'", "", "DeviceBlocked", "")]
#[case("issuer='entra'\ndevice='11111111-2222-4333-8444-555555555555'", "", "DeviceBlocked", "")]
#[case("issuer='site'\ndevice='11111111-2222-4333-8444-555555555555'", "", "", "")]
#[case("device='laptop 7'", "", "", "DeviceBlocked")]
#[case("device='Laptop 7'", "", "", "")]
// A user.
#[case("user='anna@contoso.com'", "", "", "UserBlocked")]
#[case("issuer='oidc'\nuser='anna@contoso.com'", "", "", "UserBlocked")]
#[case("issuer='site'\nuser='anna@contoso.com'", "", "", "")]
#[case("user='laptop 7'", "", "", "")]
// By time of issue: a minute ago, by iat, else by nbf; the third has neither.
#[case("issuer='entra'\nissued_before=2026-09-21T14:12:20Z", "", "", "")]
#[case("issuer='entra'\nissued_before=2026-09-21T14:12:21Z", "", "TokenBlocked", "")]
#[case("issuer='entra'\nissued_before=2026-09-21T16:12:20.5+02:00", "", "TokenBlocked", "")]
#[case("issuer='site'\nissued_before=2026-09-21T14:12:20Z", "", "", "")]
#[case("issuer='site'\nissued_before=2026-09-21T14:12:21Z", "TokenBlocked", "", "")]
#[case("issuer='oidc'\nissued_before=1970-01-01T00:00:01Z", "", "", "TokenBlocked")]
#[case("device='laptop 7'\nissued_before=2000-01-01T00:00:00Z", "", "", "TokenBlocked")]
#[case("user='anna@contoso.com'\nissued_before=2000-01-01T00:00:00Z", "", "", "TokenBlocked")]
#[case(
    "device='0A1B2C3D-0000-4000-8000-00000000000F'\nissued_before=2026-09-21T14:12:20Z",
    "",
    "",
    ""
)]
#[case(
    "device='0A1B2C3D-0000-4000-8000-00000000000F'\nissued_before=2026-09-22T00:00:00Z",
    "TokenBlocked",
    "",
    ""
)]
fn an_entry_blocks_what_it_names_and_nothing_else(
    #[case] entry: &str,
    #[case] of_site: &str,
    #[case] of_entra: &str,
    #[case] of_oidc: &str,
) {
    let list = list(&format!("[[block]]\n{entry}\nreason = 'why not'\n"));
    let oidc = json!({
        "iss": "https://id.example", "aud": "mp", "exp": NOW_S + 3600,
        "device_id": "laptop 7", "email": "anna@contoso.com",
    });
    for (token, expected) in [
        (rs256(&site(json!({}))), of_site),
        (rs256(&entra(json!({}))), of_entra),
        (rs256(&oidc), of_oidc),
    ] {
        let found = judged(&list, &token).map(|d| format!("{d:?}")).unwrap_or_default();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_stricter_of_two_entries_counts_in_either_order() {
    let (device, token) = ("device='laptop 7'", "issuer='oidc'");
    let always = format!("[[block]]\n{device}\n");
    let before = format!("[[block]]\n{device}\nissued_before=2000-01-01T00:00:00Z\n");
    let oidc = json!({
        "iss": "https://id.example", "aud": "mp", "exp": NOW_S + 3600, "iat": NOW_S,
        "device_id": "laptop 7",
    });
    let oidc = rs256(&oidc);
    for text in [format!("{always}{before}"), format!("{before}{always}")] {
        assert_eq!(judged(&list(&text), &oidc), Some(Denial::DeviceBlocked));
    }
    assert_eq!(judged(&list(&before), &oidc), None);
    let late = format!("[[block]]\n{token}\nissued_before=2030-01-01T00:00:00Z\n");
    for text in [format!("{late}{before}"), format!("{before}{late}")] {
        assert_eq!(judged(&list(&text), &oidc), Some(Denial::TokenBlocked));
    }
}

#[rstest]
#[case("[[block]]\ndevise = 'x'", "2:1: unknown field `devise`")]
#[case("[block]\ndevice = 'x'", "1:1: invalid type: map")]
#[case("block = 1", "1:9: invalid type: integer")]
#[case("[[block]]\ndevice = 7", "2:10: invalid type: integer")]
#[case("[[block]]\ndevice = 'x", "2:12: ")]
#[case("[[block]]\ndevice = ''", "2:10: must be printable")]
#[case("[[block]]\ndevice = 'ü'", "2:10: must be printable")]
#[case("[[block]]\nreason = 'x'", "1:1: an entry needs")]
#[case("[[block]]\nissuer = 'x'", "1:1: an entry needs")]
#[case("[[block]]\nissued_before = 2026-01-01T00:00:00Z", "1:1: an entry needs")]
#[case("[[block]]\ntoken = 'x'", "2:9: token needs issuer")]
#[case("[[block]]\ndevice = 'x'\n[[block]]\ndevice = 'x'\nuser = 'y'", "3:1: an entry has one of")]
#[case("[[block]]\ndevice = 'x'\nissued_before = 2026-01-01", "3:17: issued_before needs")]
#[case("[[block]]\ndevice = 'x'\nissued_before = 2026-01-01T00:00:00", "3:17: issued_before needs")]
#[case("[[block]]\ndevice = 'x'\nissued_before = '2026-01-01T00:00:00Z'", "3:17: ")]
#[case(
    "[[block]]\nissuer = 'i'\ntoken = 'x'\nissued_before = 2026-01-01T00:00:00Z",
    "4:17: one token"
)]
#[case("{\"block\": []}", "1:1: ")]
fn a_malformed_blocklist_is_reported_with_line_and_column(#[case] text: &str, #[case] told: &str) {
    let faults = Blocklist::parse(text.as_bytes()).unwrap_err();
    assert!(faults[0].to_string().starts_with(told), "{}", faults[0]);
}

#[test]
fn a_blocklist_is_used_whole_or_not_at_all() {
    let faults = Blocklist::parse("[[block]]\n".repeat(1000).as_bytes()).unwrap_err();
    assert_eq!(faults.len(), 20);
    assert!(Blocklist::parse(&[0xff]).is_err());
    assert!(Blocklist::parse(&vec![b'\n'; BLOCKLIST_BYTES_MAX + 1]).is_err());
    assert!(list("").is_empty() && list("# nobody\n").is_empty());
}

#[test]
fn a_hundred_thousand_blocks_fit_in_twenty_megabytes() {
    let text: String = (0..50_000_u128)
        .map(|n| {
            let (token, device) = (uuid::Uuid::from_u128(n), uuid::Uuid::from_u128(!n));
            format!("[[block]]\nissuer='site'\ntoken='{token}'\n[[block]]\ndevice='{device}'\n")
        })
        .collect();
    let list = list(&text);
    assert_eq!((list.len(), list.issuers().collect::<Vec<_>>()), (100_000, vec!["site"]));
    assert!(list.bytes() < 20 * 1024 * 1024, "{} bytes", list.bytes());
    let of = |n: u128| site(json!({ "UniqueId": uuid::Uuid::from_u128(n) }));
    assert_eq!(judged(&list, &rs256(&of(49_999))), Some(Denial::TokenBlocked));
    assert_eq!(judged(&list, &rs256(&of(50_000))), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Blocklist::parse(&bytes);
    }

    #[test]
    fn a_list_in_pieces_means_what_the_whole_means(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "[[block]]", "[[block]]", "[[block]]", "device = 'a'", "user = 'b'", "issuer = 'c'",
                "token = 'd'", "# [[block]]", " [[block]]", "[block]", "block = []", "reason = '''",
                "reason = \"\"\"", "'''", "\"\"\"", "reason = [", "]", "", "x = 1", "device = 1",
            ]),
            0..16,
        ),
        at_once in 1..4_usize,
    ) {
        let text = lines.join("\n");
        let whole = Blocklist::parse_by(text.as_bytes(), usize::MAX);
        let pieces = Blocklist::parse_by(text.as_bytes(), at_once);
        // A fault is found in both, though not always at the same place.
        let entries = |list: Result<Blocklist, _>| list.ok().map(|list| list.len());
        prop_assert_eq!(entries(whole), entries(pieces), "{}", text);
    }

    #[test]
    fn no_spelling_of_a_blocked_guid_passes(upper in any::<u64>(), prefixed: bool, form in 0..4_u8) {
        let id = uuid::Uuid::parse_str(ENTRA_DEVICE).unwrap();
        let text = match form {
            0 => id.hyphenated().to_string(),
            1 => id.simple().to_string(),
            2 => id.braced().to_string(),
            _ => id.urn().to_string(),
        };
        let mixed: String = text.chars().enumerate().map(|(n, c)| {
            if upper >> (n % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }
        }).collect();
        // A URN's prefix is not part of the GUID, so its case is not varied.
        let typed = if form == 3 { text } else { mixed };
        let typed = if prefixed { format!("gUiD:{typed}") } else { typed };
        let list = list(&format!("[[block]]\ndevice = '{typed}'"));
        prop_assert_eq!(judged(&list, &rs256(&entra(json!({})))), Some(Denial::DeviceBlocked));
    }
}
