//! Route tests: every namespace with every method in every case, and every path trick.

mod spelling;

use proptest::prelude::*;
use rstest::rstest;

use super::pattern::RouteReach;
use super::*;
use crate::denial::Denial;
use crate::purpose::{Purpose, Purposes};

const LEN_MAX: usize = 8192;

/// The presets' golden table.
const ROUTES: &str = include_str!("../../tests/cases/routes.txt");

fn canon(target: &str) -> Result<String, Denial> {
    CanonicalPath::parse(target.as_bytes(), LEN_MAX).map(|p| p.to_string())
}

fn path(target: &str) -> CanonicalPath {
    CanonicalPath::parse(target.as_bytes(), LEN_MAX).unwrap_or_else(|d| panic!("{target}: {d}"))
}

fn everything() -> RouteTable {
    RouteTable::new(vec![], presets(&Role::ALL).into_iter().map(|(_, route)| route).collect())
}

#[test]
fn common_names_are_guarded_only_where_their_role_is() {
    let guards = |roles: &[Role], target: &str| {
        let own = presets(roles).into_iter().map(|(_, route)| route).collect();
        guarded(&RouteTable::new(vec![], own)).claims(&path(target))
    };
    for target in ["/ReportServer/x", "/Reports/x"] {
        assert!(!guards(&[Role::ManagementPoint], target));
        assert!(guards(&[Role::ManagementPoint, Role::ReportingServicesPoint], target));
    }
    assert!(guards(&[Role::DistributionPoint], "/CCM_System_AltAuth/request"));
}

/// A target in upper, lower and mixed case; the query as it is.
fn cases(target: &str) -> [String; 3] {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mixed = path.char_indices().map(|(i, c)| match i % 2 {
        0 => c.to_ascii_uppercase(),
        _ => c.to_ascii_lowercase(),
    });
    [path.to_uppercase(), path.to_lowercase(), mixed.collect()].map(|p| p + query)
}

#[test]
fn each_namespace_has_its_methods_and_requirement() {
    const METHODS: [&str; 16] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "PROPPATCH",
        "CCM_POST",
        "BITS_POST",
        "get",
        "ccm_post",
        "",
    ];
    let mut named = Vec::new();
    for line in ROUTES.lines().filter(|l| !l.starts_with('#')) {
        let cells: Vec<_> = line.split(" | ").collect();
        let [role, target, name, requirement, purposes, token, methods] = cells[..] else {
            panic!("{line}")
        };
        let role = Role::from_name(role).unwrap();
        named.push(name);
        for table in [RouteTable::new(vec![], preset(role)), everything()] {
            for target in cases(target) {
                let path = path(&target);
                for method in METHODS {
                    let found = table.find(&path, method).map(|r| &*r.name);
                    let expected = if methods.split(' ').any(|m| m == method) {
                        Ok(name)
                    } else {
                        Err(Denial::RouteMethod)
                    };
                    assert_eq!(found, expected, "{method} {target}");
                }
                let route = table.covering(&path).unwrap();
                let letter = |p: Purpose| match p {
                    Purpose::Content => 'o',
                    p => p.as_str().chars().next().unwrap(),
                };
                let letters: String = route.purposes.iter().map(letter).collect();
                assert_eq!(route.requirement.as_str(), requirement, "{target}");
                assert_eq!(letters, purposes.trim_matches('-'), "{target}");
                assert_eq!(route.token == TokenHandling::Forward, token == "forward", "{target}");
                assert_eq!(route.allow(), methods.replace(' ', ", "));
            }
        }
    }
    for route in everything().iter() {
        assert!(named.contains(&&*route.name), "{} is missing from the table of cases", route.name);
        assert!(route.reason.ends_with('.') && route.body_bytes.is_some(), "{}", route.name);
        let pattern = route.pattern.to_string();
        assert_eq!(Pattern::parse(&pattern), Ok(route.pattern.clone()), "rows are canonical");
    }
}

#[rstest]
fn what_no_row_names_is_denied(
    #[values(
        "/",
        "/sms_mp",
        "/sms_mp/",
        "/sms_mpx/.sms_pol",
        "/sms_mp/.sms_polx",
        "/sms_mp/sms_pol",
        "/sms_mp/.sms_pol/x",
        "/sms_mp/.sms_aut/.sms_pol",
        "/sms_mp/.sms_aut/",
        "/sms_mp/x/.sms_aut",
        "/ccm_system",
        "/ccm_system/",
        "/ccm_system/requestx",
        "/ccm_system/request/x",
        "/x/ccm_client/",
        "/ccm_clientx",
        "/ccm_client.old/a",
        "/ccm_client_/a",
        "/sms_dp_smspkg",
        "/sms_dp_smspkg/a",
        "/sms_dp_smspkg$x/a",
        "/sms_dp_smspkgd$/a",
        "/healthz",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/ping",
        "/admin",
        "/status",
        "/healthz?/ccm_client/",
        "/metrics?x=/sms_mp/.sms_aut",
        "/favicon.ico",
        "/certsrv/",
        "/%7Bx%7D/",
        "/sms%20mp/.sms_aut",
        "/sms_mp,/.sms_aut",
        "/(sms_mp)/.sms_aut"
    )]
    target: &str,
) {
    for target in cases(target) {
        let found = everything().find(&path(&target), "GET").map(|r| r.name.to_string());
        assert_eq!(found, Err(Denial::RouteUnknown), "{target}");
    }
}

#[rstest]
#[case("/", "/")]
#[case("/SMS_MP/.sms_aut?MPLIST", "/sms_mp/.sms_aut")]
#[case("/SMS_MP/.sms_pol?{GUID}.1_00", "/sms_mp/.sms_pol")]
#[case("/x?a=//..\\%00;:*", "/x")]
#[case("/CCM_Client/", "/ccm_client/")]
#[case(
    "/SMS_DP_SMSPKG$/PS100012/sub%20dir/file.exe",
    "/sms_dp_smspkg$/ps100012/sub%20dir/file.exe"
)]
#[case("/SMS_DP_SMSSIG$/Content_x.1.tar", "/sms_dp_smssig$/content_x.1.tar")]
#[case("/p/%C3%A4%c3%96.txt", "/p/%c3%a4%c3%96.txt")]
#[case("/p/%E6%97%A5%E6%9C%AC.msi", "/p/%e6%97%a5%e6%9c%ac.msi")]
#[case("/p/%F0%9F%98%80", "/p/%f0%9f%98%80")]
#[case("/p/a+b(1)[2]{3}'!,=@^`&.cab", "/p/a+b(1)[2]{3}'!,=@^`&.cab")]
#[case("/p/a%2Bb%281%29%5B2%5D%7B3%7D%27%21%2C%3D%40%5E%60%26.cab", "/p/a+b(1)[2]{3}'!,=@^`&.cab")]
#[case("/p/C%23%20notes.txt", "/p/c%23%20notes.txt")]
#[case("/p/%20leading", "/p/%20leading")]
#[case("/p/..hidden/...x/a..b", "/p/..hidden/...x/a..b")]
#[case("/p/~user/a~b/setup~1.cab", "/p/~user/a~b/setup~1.cab")]
#[case("/p/longername~1/x", "/p/longername~1/x")]
#[case("/p/(old)/x", "/p/(old)/x")]
// Unnecessary escapes (RFC 3986 §6.2.2.2), and Windows PE's dollar sign.
#[case("/SMS_DP_SMSPKG%24/PS100012/x", "/sms_dp_smspkg$/ps100012/x")]
#[case("/%53ms_mp/%2Esms_pol", "/sms_mp/.sms_pol")]
#[case("/sms%5fmp/%2e%73ms%5Fpol", "/sms_mp/.sms_pol")]
#[case("/a%2db%7Ec/%30%5a", "/a-b~c/0z")]
#[case("/p/a%2eb/%2e%2ec", "/p/a.b/..c")]
// Characters that change nothing for servers that decode twice or cut off parameters.
#[case("/p/%25AppData%25/100%25.txt", "/p/%25appdata%25/100%25.txt")]
#[case("/p/%25%5a%41", "/p/%25za")]
#[case("/p/a;b;c.txt", "/p/a;b;c.txt")]
#[case("/p/a%3Bb.txt", "/p/a;b.txt")]
#[case("/p/%c3%a4;%c3%b6", "/p/%c3%a4;%c3%b6")]
#[case("/p/a%ef%bc%9bb", "/p/a%ef%bc%9bb")]
fn what_has_one_reading_is_read(#[case] target: &str, #[case] expected: &str) {
    assert_eq!(canon(target), Ok(expected.to_owned()));
}

#[rstest]
fn what_has_two_readings_is_ambiguous(
    #[values(
        // Separators, encoded or doubled.
        "/sms_mp%2f.sms_pol", "/sms_mp%2F.sms_pol", "/sms_mp%5c.sms_pol", "/sms_mp\\.sms_pol",
        "//sms_mp/.sms_pol", "/sms_mp//.sms_pol", "/sms_mp/.sms_aut//", "//",
        // Dot segments.
        "/.", "/..", "/./sms_mp", "/sms_mp/..", "/ccm_client/../sms_mp/.sms_pol", "/a/./b",
        "/ccm_client/%2e%2e/sms_mp/.sms_pol", "/ccm_client/.%2e/x", "/a/%2E/b", "/a/.../b",
        "/a/b%2e", "/a/b%2E/c", "/a/%2e%20/b", "/a/..%2e/b", "/a/b%20%2e",
        // Double, invalid and non-standard escapes.
        "/sms_mp/%252e", "/a%25", "/a/%2541", "/a/%25%34%31", "/a/%25u0041", "/a/%25%75",
        "/a/%25%25%32%35", "/a/%25d%66", "/a/%25%c3%a4", "/a/%c3%a4%25", "/a/%25%ef%bc%94%ef%bc%91", "/a%", "/a%2", "/a%zz", "/a%u0053", "/%", "/a%%20b", "/a%+1",
        // Controls and NUL.
        "/sms_mp/.sms_pol%00.txt", "/a%0d%0aX:y", "/a%7f", "/a%09b", "/a%1f", "/a%c2%85b",
        // Not UTF-8, overlong, surrogates, beyond Unicode, truncated.
        "/a/%c0%af", "/a/%c1%9c", "/a/%e0%80%af", "/a/%f0%80%80%af", "/a/%ed%a0%80", "/a/%ff",
        "/a/%f4%90%80%80", "/a/%80", "/a/%c3", "/a/%c3x", "/a/%c3%28", "/a/%e2%82", "/a/%e4",
        // Characters that Windows trims.
        "/sms_mp./.sms_pol", "/sms_mp%20/.sms_pol", "/sms_mp/.sms_pol.", "/sms_mp/.sms_pol%20",
        "/sms_mp/.sms_pol%c2%a0", "/a/b%e3%80%80", "/a/b%e2%80%8b", "/a%20./b", "/a.%20/b",
        // Streams, parameters, wildcards.
        "/sms_mp/.sms_pol::$DATA", "/a:b", "/a:$i30:$index_allocation/b", "/a%3ab", "/c:/x",
        "/sms_mp;x/.sms_pol", "/a%3bx", "/a/..;/b", "/a/.;x/b", "/a/;x", "/a/b.;x", "/a/b%20;x", "/a/%3b",
        "/a/..%3b/b", "/a/..%ef%bc%9bx/b", "/a/%cd%bex", "/a/b%20%ef%bc%9bx", "/a/%2e%2e;/b", "/a/b%c2%a0;x", "/a/(S(x;y))", "/p/SETUP~1.EXE;x", "/p/SETUP~1;x", "/a*", "/a%2a", "/a%3f",
        "/a<b", "/a>b", "/a\"b", "/a|b", "/a%3cb", "/a%22b", "/a%7cb",
        // Short names, session segments.
        "/sms_mp~1/.sms_pol", "/p/PROGRA~1/x", "/p/PROGRA%7e1/x", "/p/P%25OGR~1/x", "/p/%23OGRA~1/x", "/p/SECRET~1", "/p/SECRET~1/", "/p/AB12C~99.OLD/x",
        "/(S(x))/sms_mp/.sms_pol", "/p/(A(1)S(2))/x", "/(s(x))sms_mp/", "/p/%28S%28x))/y",
        // Look-alikes.
        "/%ef%bd%93ms_mp/.sms_pol", "/sms_m%c3%bc/", "/a/b%ef%bc%8fc", "/a/b%e2%88%95c",
        "/a/%ef%bc%8e%ef%bc%8e/b", "/a/b%c2%a5c", "/a/b%e2%81%84c", "/a/b%ef%bc%bcc"
    )]
    target: &str,
) {
    assert_eq!(canon(target), Err(Denial::PathAmbiguous), "{target}");
}

#[test]
fn content_alone_has_names_with_percent_signs_and_semicolons() {
    let content = Route {
        purposes: Purposes::of(&[Purpose::Client, Purpose::Content]),
        ..own("/content/", Requirement::Device)
    };
    let table = RouteTable::new(
        vec![
            content,
            own("/content/keys/list", Requirement::User),
            own("/other/", Requirement::User),
        ],
        vec![],
    );
    let ambiguous = Err(Denial::PathAmbiguous);
    for (target, expected) in [
        ("/content/x/%25AppData%25/a", Ok("own /content/")),
        ("/content/x/a;1.txt", Ok("own /content/")),
        ("/other/x/%25AppData%25", ambiguous),
        ("/other/x/a;1.txt", ambiguous),
        ("/nowhere/a;1.txt", ambiguous),
        ("/nowhere/a%25", ambiguous),
        // Beside the names of other routes it could be one of theirs.
        ("/content/keys;x/list", ambiguous),
        ("/content/keys/list;x", ambiguous),
        ("/content/keys%25/list", ambiguous),
        ("/content/x/list;x", Ok("own /content/")),
    ] {
        let found = table.place(&path(target)).map(|place| &*table.get(place).unwrap().name);
        assert_eq!(found, expected, "{target}");
    }
    let packages = everything();
    let target = "/SMS_DP_SMSPKG%24/PS100012/%25AppData%25/a;b.txt";
    assert_eq!(packages.covering(&path(target)).unwrap().name, "dp-content");
    let target = "/NOCERT_SMS_DP_SMSPKG$/PS100012/a;b.txt";
    assert_eq!(packages.covering(&path(target)).unwrap().name, "dp-windows-content");
    for elsewhere in
        ["/sms_mp/.sms_pol;x", "/ccm_client/a;b", "/ccm_client/100%25", "/sms_mp_tokenauth/a;b"]
    {
        assert_eq!(packages.place(&path(elsewhere)), Err(Denial::PathAmbiguous), "{elsewhere}");
    }
}

#[test]
fn what_is_sent_has_the_names_that_were_judged() {
    for (came, sent) in [
        ("/SMS_DP_SMSPKG%24/PS1/a%20b%2Ec?%24", "/SMS_DP_SMSPKG$/PS1/a%20b.c?%24"),
        ("/%53MS%5fMP/%2esms_pol?x", "/SMS_MP/.sms_pol?x"),
        ("/a%7e%2D", "/a~-"),
        ("/p/%25AppData%25/%C3%A4%28%3b", "/p/%25AppData%25/%C3%A4%28%3b"),
        ("/p/x?%41", "/p/x?%41"),
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz", "/%zz"),
        ("", ""),
    ] {
        assert_eq!(String::from_utf8_lossy(&plainly_spelled(came.as_bytes())), sent);
    }
}

#[test]
fn what_is_no_path_is_malformed() {
    let cases: [&[u8]; 17] = [
        b"",
        b"*",
        b"sms_mp/.sms_pol",
        b"http://mp/sms_mp/.sms_pol",
        b"mp:443",
        b"?x",
        b" /a",
        b"/a#b",
        b"/a?b#c",
        b"/a b",
        b"/a?b c",
        b"/a\r\nX: y",
        b"/a\0",
        b"/a?\x7f",
        b"/\xc3\xa4",
        b"/a?\xff",
        b"\\a",
    ];
    for target in cases {
        let result = CanonicalPath::parse(target, LEN_MAX);
        assert_eq!(result, Err(Denial::PathMalformed), "{}", String::from_utf8_lossy(target));
    }
    assert_eq!(CanonicalPath::parse(b"/abc?d", 5), Err(Denial::LimitUri));
    assert!(CanonicalPath::parse(b"/abc?d", 6).is_ok());
}

fn own(pattern: &str, requirement: Requirement) -> Route {
    Route {
        name: format!("own {pattern}").into(),
        pattern: Pattern::parse(pattern).unwrap(),
        queries: None,
        methods: vec!["GET".into()],
        body_bytes: None,
        requirement,
        purposes: Purposes::of(&[Purpose::Client]),
        token: TokenHandling::Strip,
        answer_time: None,
        requests_per_minute: None,
        destination: Destination::Backend,
        translation: None,
        websocket: false,
        rewrite_links: false,
        reason: "Because.".into(),
    }
}

#[test]
fn the_longest_pattern_wins_and_the_own_one_among_equals() {
    let patterns =
        ["/", "/Reports/", "/reports/admin/", "/reports/one", "/sms_mp/", "/ccm_client/"];
    let own = patterns.map(|p| own(p, Requirement::User)).to_vec();
    let table = RouteTable::new(own, preset(Role::ManagementPoint));
    let name = |target: &str| table.covering(&path(target)).map(|r| r.name.to_string());
    for (target, expected) in [
        ("/", Some("own /")),
        ("/x", Some("own /")),
        ("/reportsx/admin", Some("own /")),
        ("/reports", Some("own /Reports/")),
        ("/REPORTS/x/admin", Some("own /Reports/")),
        ("/reports/ADMIN", Some("own /reports/admin/")),
        ("/reports/admin/x", Some("own /reports/admin/")),
        ("/reports/administrators", Some("own /Reports/")),
        ("/reports/one", Some("own /reports/one")),
        ("/reports/one/", None),
        ("/reports/one/more", None),
        ("/reports/ones", Some("own /Reports/")),
        ("/ccm_client/a", Some("own /ccm_client/")),
        ("/sms_mp/x", Some("own /sms_mp/")),
        ("/sms_mp/.sms_pol", Some("mp-policy")),
        // The single path claims its subtree from the anonymous or weaker route above it.
        ("/sms_mp/.sms_pol/x", None),
    ] {
        assert_eq!(name(target).as_deref(), expected, "{target}");
    }
    assert_eq!(
        table.find(&path("/ccm_client/a"), "HEAD"),
        Err(Denial::RouteMethod),
        "the own row alone"
    );
}

/// The route of a path, by a look at all routes.
fn covering_by_scan<'t>(table: &'t RouteTable, path: &CanonicalPath) -> Option<&'t Route> {
    let mut claimed = 0;
    for route in table.iter() {
        match route.pattern.reach(path.as_str()) {
            _ if route.pattern.path_len() < claimed => return None,
            RouteReach::Covers => return Some(route),
            RouteReach::Claims => claimed = route.pattern.path_len(),
            RouteReach::None => {}
        }
    }
    None
}

proptest! {
    #[test]
    fn a_route_is_found_as_by_a_look_at_all(
        patterns in prop::collection::vec("(/(a|b|ab|a[.]b)){0,3}/?", 0..12),
        target in "(/(a|b|ab|a[.]b)){1,4}/?",
    ) {
        let patterns = patterns.iter().filter(|pattern| !pattern.is_empty());
        let routes = patterns.map(|pattern| own(pattern, Requirement::User)).collect();
        let table = RouteTable::new(routes, Vec::new());
        let target = path(&target);
        prop_assert_eq!(table.covering(&target), covering_by_scan(&table, &target));
    }
}

#[test]
fn a_leaf_and_a_tree_of_one_name_live_beside_each_other() {
    let tree = own("/a/", Requirement::User);
    let leaf = own("/a", Requirement::Device);
    for table in [
        RouteTable::new(vec![leaf.clone()], vec![tree.clone()]),
        RouteTable::new(vec![leaf.clone(), tree.clone()], vec![]),
    ] {
        assert_eq!(table.covering(&path("/a")), Some(&leaf));
        assert_eq!(table.covering(&path("/a/b")), Some(&tree));
    }
    let table = RouteTable::new(vec![tree.clone()], vec![leaf]);
    assert_eq!(table.covering(&path("/a")), Some(&tree));
}

#[test]
fn a_pattern_is_a_canonical_path_without_a_query() {
    for bad in ["", "x", "/a?b", "/a//b", "/a/../b", "/a%2fb", "/a b", "/ä/", "/a/b;c", "/a/100%25"]
    {
        assert!(Pattern::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Pattern::parse("/Reports/").unwrap().to_string(), "/reports/");
}

const REGISTRATION: TokenFacts = token(Purpose::Registration, false, false);
const DEVICE: TokenFacts = token(Purpose::Client, true, false);
const USER: TokenFacts = token(Purpose::Client, false, true);
const BOTH: TokenFacts = token(Purpose::Client, true, true);
const CONTENT: TokenFacts = token(Purpose::Content, true, false);
const MEDIA: TokenFacts = token(Purpose::Media, true, false);

const fn token(purpose: Purpose, device: bool, user: bool) -> TokenFacts {
    TokenFacts { purpose, device, user }
}

#[rstest]
#[case("/sms_mp/.sms_aut", None, Ok(()))]
#[case("/ccm_client/a", None, Ok(()))]
#[case("/sms_fsp/.sms_fsp", None, Ok(()))]
#[case("/sms_mp/.sms_pol", None, Err(Denial::TokenMissing))]
#[case("/sms_mp/.sms_pol", Some(DEVICE), Ok(()))]
#[case("/sms_mp/.sms_pol", Some(USER), Ok(()))]
#[case("/sms_mp/.sms_pol", Some(MEDIA), Ok(()))]
#[case("/sms_mp/.sms_pol", Some(REGISTRATION), Err(Denial::TokenPurpose))]
#[case("/sms_mp/.sms_pol", Some(CONTENT), Err(Denial::TokenPurpose))]
#[case("/ccm_system/request", None, Err(Denial::TokenMissing))]
#[case("/ccm_system/request", Some(REGISTRATION), Err(Denial::TokenPurpose))]
#[case("/ccm_system/request", Some(DEVICE), Ok(()))]
#[case("/ccm_system/request", Some(USER), Ok(()))]
#[case("/ccm_system/request", Some(CONTENT), Err(Denial::TokenPurpose))]
#[case("/ccm_system_tokenauth/request", Some(REGISTRATION), Ok(()))]
#[case("/ccm_system_tokenauth/request", Some(CONTENT), Err(Denial::TokenPurpose))]
#[case("/ccm_sts", Some(REGISTRATION), Ok(()))]
#[case("/ccm_sts", Some(USER), Ok(()))]
#[case("/ccm_sts", None, Err(Denial::TokenMissing))]
#[case("/cmuserservice", Some(DEVICE), Err(Denial::UserTokenRequired))]
#[case("/cmuserservice", Some(USER), Ok(()))]
#[case("/cmuserservice", Some(BOTH), Ok(()))]
#[case("/cmuserservice", Some(REGISTRATION), Err(Denial::TokenPurpose))]
#[case("/sms_dp_smspkg$/a", None, Err(Denial::TokenMissing))]
#[case("/sms_dp_smspkg$/a", Some(CONTENT), Ok(()))]
#[case("/sms_dp_smspkg$/a", Some(REGISTRATION), Err(Denial::TokenPurpose))]
#[case("/sms_mp_altauth/.sms_pol", Some(BOTH), Err(Denial::RouteAltAuth))]
#[case("/ccm_system_altauth/request", None, Err(Denial::RouteAltAuth))]
#[case("/nocert_sms_dp_smspkg$/a", Some(BOTH), Err(Denial::RouteWindowsAuth))]
fn a_token_opens_what_its_purpose_and_kind_are_for(
    #[case] target: &str,
    #[case] token: Option<TokenFacts>,
    #[case] expected: Result<(), Denial>,
) {
    let table = everything();
    assert_eq!(table.covering(&path(target)).unwrap().judge(token, false), expected);
}

#[test]
fn requirements_ask_for_what_they_say() {
    let judge = |requirement, token| own("/x/", requirement).judge(token, true);
    assert_eq!(judge(Requirement::WindowsAuth, None), Ok(()));
    assert_eq!(judge(Requirement::AltAuth, None), Err(Denial::RouteAltAuth));
    assert_eq!(judge(Requirement::Deny, Some(BOTH)), Err(Denial::RouteDenied));
    assert_eq!(judge(Requirement::Device, Some(USER)), Err(Denial::DeviceTokenRequired));
    assert_eq!(judge(Requirement::Device, Some(BOTH)), Ok(()));
    assert_eq!(judge(Requirement::Device, None), Err(Denial::TokenMissing));
    let neither = token(Purpose::Client, false, false);
    for either in [Requirement::DeviceOrUser, Requirement::BootstrapMessage] {
        assert_eq!(judge(either, Some(neither)), Err(Denial::DeviceTokenRequired));
        assert_eq!(judge(either, Some(USER)), Ok(()));
        assert_eq!(judge(either, None), Err(Denial::TokenMissing));
        assert!(either.asks_for_a_token());
    }
    let registers =
        Route { purposes: Purposes::of(&[Purpose::Registration]), ..own("/x/", Requirement::User) };
    assert_eq!(registers.judge(Some(REGISTRATION), false), Err(Denial::UserTokenRequired));
}

#[test]
fn only_one_route_takes_bootstrap_messages() {
    let table = everything();
    let taking = table.iter().filter(|route| route.requirement.takes_bootstrap_messages());
    assert_eq!(taking.map(|route| &*route.name).collect::<Vec<_>>(), ["mp-messages"]);
}

#[test]
fn a_route_explains_itself() {
    let table = everything();
    let text = table.covering(&path("/ccm_sts")).unwrap().to_string();
    assert_eq!(
        text,
        "mp-token-service             /ccm_sts/\n    \
         device-or-user (registration, client)\n    \
         GET HEAD POST; body of at most 64KiB; token forwarded\n    \
         Exchanges a registration or Entra token for a client's; the backend's token\n    \
         service reads the token.\n"
    );
    for route in table.iter() {
        let text = route.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.lines().any(|line| line.ends_with(' ') || line.is_empty()), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(words(&text).ends_with(&words(&route.reason)), "{text}");
    }
}

#[test]
fn fallback_status_routes_belong_to_the_more_specific_role() {
    for roles in [
        [Role::ManagementPoint, Role::FallbackStatusPoint],
        [Role::FallbackStatusPoint, Role::ManagementPoint],
    ] {
        let all = presets(&roles);
        let of: Vec<Role> = all
            .iter()
            .filter(|(_, route)| route.name == "fallback-status")
            .map(|(r, _)| *r)
            .collect();
        assert_eq!(of, [Role::FallbackStatusPoint]);
        assert!(all.iter().any(|(role, _)| *role == Role::ManagementPoint));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn reading_never_panics(target in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = CanonicalPath::parse(&target, LEN_MAX);
        let rooted = [b"/", &target[..]].concat();
        let _ = CanonicalPath::parse(&rooted, LEN_MAX);
    }

    #[test]
    fn the_reading_of_a_reading_is_itself(
        target in "(/([!-~]|%[0-9a-fA-F]{2}|%20|%C3%A[0-9]|[a-zA-Z._$~]){0,6}){1,4}",
    ) {
        if let Ok(once) = canon(&target) {
            prop_assert_eq!(canon(&once), Ok(once.clone()));
            let sent = plainly_spelled(target.as_bytes());
            prop_assert_eq!(canon(std::str::from_utf8(&sent).unwrap()), Ok(once.clone()));
            prop_assert!(once.bytes().all(|b| !b.is_ascii_uppercase()));
            prop_assert!(!once.contains("//") && !once.contains('\\'));
        }
    }

    #[test]
    fn case_makes_no_difference(
        target in "(/([a-zA-Z._$()-]|%20|%c3%a4|%5b){1,6}){1,4}",
    ) {
        // The upper case of an escape is still an escape; case folding beyond ASCII is not tested
        // here.
        let readings = cases(&target).map(|t| canon(&t));
        prop_assert_eq!(&readings[0], &canon(&target));
        prop_assert_eq!(&readings[1], &readings[0]);
        prop_assert_eq!(&readings[2], &readings[0]);
    }

    #[test]
    fn a_request_reaches_only_a_route_at_or_above_its_path(
        target in "(/(sms_mp|SMS_MP|ccm_client|\\.sms_pol|\\.sms_aut|x|sms_dp_smspkg\\$)){1,4}/?",
    ) {
        if let (Ok(path), table) = (CanonicalPath::parse(target.as_bytes(), LEN_MAX), everything())
            && let Some(route) = table.covering(&path)
        {
            let pattern = route.pattern.to_string();
            let stem = pattern.trim_end_matches('/');
            let lower = target.to_ascii_lowercase();
            let below = lower.strip_prefix(stem);
            prop_assert!(below.is_some_and(|b| b.is_empty() || b.starts_with('/')));
        }
    }
}

#[test]
fn client_notification_may_poll_for_a_quarter_of_an_hour() {
    let routes = preset(Role::ManagementPoint);
    let patient: Vec<_> = routes.iter().filter(|r| r.answer_time.is_some()).collect();
    assert_eq!(patient.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["mp-notification"]);
    assert!(patient.iter().all(|r| r.answer_time.unwrap().as_secs() > 15 * 60));
}
