//! Messages of clients with a token, and of boot media: their target endpoints and their senders.

use jiff::Timestamp;

use crate::backends::Echo;
use crate::messages::{
    CONTENT, LOCATION, POLICY, REGISTERS, REGISTRATION, SITE, TYPE, UPDATE_SF, args, asking,
    injected_payload, message, sending,
};
use crate::support::{DEVICE, Gateway, Plan, Scribe, connect, eventually};

const PATH: &str = "/CCM_System_TokenAuth/request";
const ALT: &str = "/CCM_System_AltAuth/request";
/// The sender of the golden messages.
const SENDER: &str = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";
/// The shape of the published attack on the site's database (CVE-2024-43468).
const INJECTED: &str = "'; exec xp_cmdshell 'whoami'--";

/// Every framing of a body.
const FRAMINGS: [&[&str]; 7] = [
    &["--http1.1", "-H", "Expect:"],
    &["--http1.1", "-H", "Expect: 100-continue"],
    &["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
    &["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
    &["--http1.0"],
    &["--http2"],
    &["--http2", "-H", "Content-Length:"],
];

fn post(gateway: &Gateway, token: &str, path: &str, body: &[u8], more: &[&str]) -> (u16, String) {
    let file = sending(gateway, "message", body);
    let answer = gateway.curl_as(token, path, &args(&file, more));
    if answer.status == 200 {
        assert!(answer.body == body, "{more:?}: the message changed");
    }
    (answer.status, answer.code())
}

#[test]
fn messages_of_clients_arrive_byte_for_byte_in_any_framing() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let token = gateway.token();
    for (xml, payload) in [
        (REGISTRATION, 0),
        (LOCATION, 900),
        (POLICY, 2_138),
        (POLICY, 63_000),
        (POLICY, 66_000),
        (POLICY, 1_500_000),
    ] {
        let body = message(xml, payload);
        for framing in FRAMINGS {
            for path in [PATH, "/CCM_System/request"] {
                let seen = post(&gateway, &token, path, &body, framing);
                assert_eq!(seen, (200, String::new()), "{payload} {framing:?} {path}");
            }
        }
    }
}

#[test]
fn a_message_that_comes_in_drops_is_read_as_it_comes() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let token = gateway.token();
    let mut wire = connect(&gateway);
    let bad = message(&POLICY.replace(SENDER, &format!("{SENDER}{INJECTED}")), 300);
    for (body, status) in [(message(POLICY, 3_000), 200), (bad, 400), (message(LOCATION, 5), 200)] {
        let head = format!(
            "CCM_POST {PATH} HTTP/1.1\r\nHost: {}\r\n{TYPE}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            Gateway::HOST,
            body.len()
        );
        wire.send(head.as_bytes());
        for drop in body.chunks(97) {
            wire.send(drop);
        }
        let (answered, sent) = wire.read_answer();
        assert_eq!(answered, status);
        assert!(status != 200 || sent == body);
        // It was refused in the middle of its body, which closes the connection, or at its very
        // end.
        if status != 200 {
            wire = connect(&gateway);
        }
    }
}

#[test]
fn a_connection_goes_on_after_a_message_that_was_refused_whole() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let token = gateway.token();
    let ask = |body: &[u8]| {
        let head = format!(
            "CCM_POST {PATH} HTTP/1.1\r\nHost: {}\r\n{TYPE}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            Gateway::HOST,
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let (good, bad) = (message(POLICY, 40), b"--x".to_vec());
    let injected = message(&POLICY.replace(SENDER, INJECTED), 40);
    let mut wire = connect(&gateway);
    // Pipelined: the next head is in the same write as the end of a body.
    wire.send(&[ask(&good), ask(&bad), ask(&injected), ask(&good), ask(&bad)].concat());
    for status in [200, 400, 400, 200, 400] {
        let (answered, sent) = wire.read_answer();
        assert_eq!(answered, status);
        assert!(status != 200 || sent == good);
    }
}

#[test]
fn a_message_no_client_writes_is_refused_despite_a_token() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).start();
    let token = gateway.token();
    let nested = POLICY.replace("<Hooks>", "<Hooks><SourceID>'</SourceID>");
    let large = POLICY.replace("<Hooks>", &format!("<X>{}</X><Hooks>", "x".repeat(30_000)));
    let gzip = ["-H", "Content-Encoding: gzip"];
    type Case<'a> = (&'a str, Vec<u8>, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 8] = [
        (
            "injection",
            message(&POLICY.replace(SENDER, &format!("{SENDER}{INJECTED}")), 2_000),
            &[],
            "message.source_id",
        ),
        ("only injection", message(&POLICY.replace(SENDER, INJECTED), 0), &[], "message.source_id"),
        ("nested", message(&nested, 0), &[], "message.malformed"),
        ("large", message(&large, 0), &[], "message.malformed"),
        ("noise", vec![0xfe; 999], &[], "message.malformed"),
        ("cut", message(POLICY, 0)[..900].to_vec(), &[], "message.malformed"),
        ("empty", vec![], &[], "message.malformed"),
        ("encoded", message(POLICY, 0), &gzip, "message.malformed"),
    ];
    for (what, body, more, code) in &cases {
        for framing in FRAMINGS {
            // A client that sends an unwanted body may be cut off before it reads the response.
            if body.len() > 48 * 1024 && !framing.contains(&"--http2") {
                continue;
            }
            // curl sends no empty body after waiting for 100 Continue.
            if body.is_empty() && framing.len() == 5 && framing[4].starts_with("Expect: 1") {
                continue;
            }
            let seen = post(&gateway, &token, PATH, body, &[framing, more].concat());
            assert_eq!(seen, (400, (*code).to_owned()), "{what} {framing:?}");
        }
    }
    assert_eq!(scribe.lines(), [""; 0]);
    eventually("the log says who sent it", || {
        gateway.access().first().is_some_and(|line| {
            line["decision"] == "denied"
                && line["device"] == DEVICE
                && line["reason"] == "message.source_id"
        })
    });
    let text = std::fs::read_to_string(gateway.path("access.log")).unwrap() + &gateway.log();
    assert!(!text.contains("xp_cmdshell") && !text.contains(SENDER), "a message is in the log");
}

#[test]
fn a_device_sends_only_for_itself_where_required() {
    let backend = Echo::start();
    let plan = Plan::to(&backend.url()).site_system(
        "message_guard = \"device\"\nmessage_endpoints = [\"MP_PolicyManager\", \"MP_ClientRegistration\"]",
    );
    let gateway = plan.start();
    let token = gateway.token();
    let user = gateway.issue(&["--user", "u1"]);
    let own = POLICY.replace(SENDER, DEVICE);
    let lower = POLICY.replace(SENDER, &DEVICE.to_ascii_lowercase().replace("guid:", "GUID:"));
    for framing in [FRAMINGS[0], FRAMINGS[5]] {
        for (token, xml, expected) in [
            (&token, own.as_str(), (200, "")),
            (&token, &lower, (200, "")),
            (&token, REGISTRATION, (200, "")),
            (&token, POLICY, (403, "message.device")),
            (&token, &POLICY.replace(SENDER, ""), (403, "message.device")),
            (&user, &own, (403, "message.device")),
            (&token, &LOCATION.replace(SENDER, DEVICE), (403, "message.endpoint")),
        ] {
            let (status, code) = post(&gateway, token, PATH, &message(xml, 9), framing);
            assert_eq!((status, &*code), expected, "{framing:?} {xml}");
        }
    }
    eventually("the log names the endpoint", || {
        gateway.access().iter().any(|line| line["detail"] == "message for MP_LocationManager")
    });
}

#[test]
fn a_registration_token_allows_registration_only() {
    let backend = Echo::start();
    for guard in ["shape", "off"] {
        let keys = format!("upstream = \"translate\"\nmessage_guard = \"{guard}\"");
        let gateway = Plan::to(&backend.url()).site_system(&keys).start();
        let token = gateway.issue(&["--kind", "registration"]);
        for framing in [FRAMINGS[0], FRAMINGS[5]] {
            for (body, status, code) in [
                (asking(REGISTRATION, REGISTERS), 200, ""),
                (asking(LOCATION, SITE), 200, ""),
                (message(POLICY, 9), 403, "message.endpoint"),
                (message(REGISTRATION, 9), 400, "message.payload"),
                (asking(LOCATION, &injected_payload()), 400, "message.payload"),
                (asking(LOCATION, UPDATE_SF), 403, "message.request"),
                (asking(LOCATION, CONTENT), 403, "message.request"),
            ] {
                let seen = post(&gateway, &token, PATH, &body, framing);
                assert_eq!(seen, (status, code.to_owned()), "{guard}");
            }
        }
    }
}

#[test]
fn a_windows_auth_message_is_read_even_without_a_guard() {
    let backend = Echo::start();
    let plan = Plan::to(&backend.url()).unguarded().site_system("windows_auth = true");
    let gateway = plan.start();
    let injected = POLICY.replace(SENDER, &format!("{SENDER}{INJECTED}"));
    for (body, status, code) in [
        (message(POLICY, 2_000), 200, ""),
        (asking(LOCATION, CONTENT), 200, ""),
        (message(&injected, 9), 400, "message.source_id"),
        (asking(LOCATION, &injected_payload()), 400, "message.payload"),
        (asking(LOCATION, UPDATE_SF), 403, "message.request"),
    ] {
        let file = sending(&gateway, "message", &body);
        for framing in [FRAMINGS[0], FRAMINGS[1], FRAMINGS[2]] {
            let answer = gateway.curl("/CCM_System_WindowsAuth/request", &args(&file, framing));
            assert_eq!((answer.status, &*answer.code()), (status, code), "{framing:?}");
            assert!(status != 200 || answer.body == body, "{framing:?}: the message changed");
        }
    }
}

const OLD: &str =
    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok";

fn alt_auth(network: &str) -> String {
    format!(
        "[site_system.alt_auth]\nnetworks = [\"{network}\"]\nendpoints = [\"MP_LocationManager\"]\n"
    )
}

#[test]
fn alt_auth_is_open_to_media_from_their_networks() {
    let scribe = Scribe::answering(|_| OLD.into());
    let gateway = Plan::to(&scribe.url()).after(&alt_auth("127.0.0.0/8")).start();
    let injected = LOCATION.replace(SENDER, &format!("{SENDER}{INJECTED}"));
    for protocol in ["--http1.1", "--http2"] {
        for (xml, payload, status, code) in [
            (LOCATION, CONTENT, 200, ""),
            (POLICY, CONTENT, 403, "message.endpoint"),
            (&*injected, CONTENT, 400, "message.source_id"),
            (LOCATION, &*injected_payload(), 400, "message.payload"),
            (LOCATION, UPDATE_SF, 403, "message.request"),
        ] {
            let body = asking(xml, payload);
            let file = sending(&gateway, "message", &body);
            let answer =
                gateway.curl(ALT, &args(&file, &[protocol, "-H", "Authorization: Basic eDp5"]));
            assert_eq!((answer.status, &*answer.code()), (status, code), "{protocol} {xml}");
            if status == 200 {
                let written = scribe.last();
                assert!(written.body == body && written.fields("authorization").is_empty());
                assert_eq!(written.line(), format!("CCM_POST {ALT} HTTP/1.1"));
            }
            assert_right(&answer.head);
        }
        let policy = gateway.curl("/SMS_MP_AltAuth/.sms_pol?x", &[protocol]);
        assert_eq!((policy.status, policy.text().as_str()), (200, "ok"));
        assert_right(&policy.head);
    }
    assert_eq!(scribe.all().len(), 4);
    // On other routes the Date is the backend's.
    let location = gateway.curl("/SMS_MP/.sms_aut?MPLIST", &["--http1.1"]);
    assert!(location.head.contains("1994"), "{}", location.head);
    // Other networks get a denial code of their own. A reload applies the change.
    gateway.write_config(&gateway.config_text().replace("127.0.0.0/8", "192.0.2.0/24"));
    eventually("the network is another", || {
        gateway.curl("/SMS_MP_AltAuth/.sms_pol?x", &[]).code() == "route.alt_auth_network"
    });
    let closed = gateway.config_text().replace(&alt_auth("127.0.0.0/8"), "");
    gateway.write_config(&closed);
    eventually("nobody is let in", || {
        gateway.curl("/SMS_MP_AltAuth/.sms_pol?x", &[]).code() == "route.alt_auth"
    });
}

/// Checks that a response has exactly one Date, and that it is current.
fn assert_right(head: &str) {
    let dates: Vec<&str> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("date"))
        .map(|(_, value)| value)
        .collect();
    let [date] = dates[..] else { panic!("{head}") };
    let told: Timestamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).unwrap();
    let now = sitegate::clock::Clock::system().now();
    assert!((told.as_second() - now.as_second()).abs() <= 5, "{date} is not {now}");
}

#[test]
fn a_policy_for_alt_auth_says_who_and_what_for() {
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:80"));
    let text = gateway.config_text();
    for (keys, wanted) in [
        ("networks = [\"10.0.0.0/8\"]", "endpoints of alt_auth is missing"),
        ("endpoints = [\"MP_X\"]", "networks of alt_auth is missing"),
        ("networks = []\nendpoints = [\"MP_X\"]", "networks of alt_auth is empty"),
        ("networks = [\"10.0.0.1/8\"]\nendpoints = [\"MP_X\"]", "is an address in the network"),
        ("networks = [\"ten\"]\nendpoints = [\"MP_X\"]", "'ten' is not a network"),
        ("networks = [\"10.0.0.0/8\"]\nendpoints = [\"MP X\"]", "'MP X' is not an endpoint"),
    ] {
        gateway.write_config(&format!("{text}[site_system.alt_auth]\n{keys}\n"));
        let out = gateway.command(&["check"]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{keys}: {told}");
        assert!(told.contains(wanted), "{keys}: {told}");
    }
}
