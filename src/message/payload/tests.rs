//! Payloads of messages without a token: real requests of clients, and look-alikes.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use rstest::rstest;

use crate::message::{Asker, Encoding, Envelope, PayloadRequest, Unreadable, envelope, request};

const LOCATION: &str = "MP_LocationManager";
const REGISTRATION: &str = "MP_ClientRegistration";

macro_rules! payload {
    ($name:literal) => {
        include_str!(concat!("../../../tests/cases/payloads/", $name, ".xml"))
    };
}

const REGISTERS: &str = payload!("registration");
const SITE: &str = payload!("site-information");
const OWN: &str = payload!("client-package");
const CONTENT: &str = payload!("content");
const UPDATE_SF: &str = payload!("update-sf");

const TYPE: &[u8] = b"multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";
const BOUNDARY: &str = "--aAbBcCdDv1234567890VxXyYzZ";
const ZLIB: &str = "<Hooks><Hook3 Name=\"zlib-compress\" /></Hooks>";

fn le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn ended(xml: &str) -> Vec<u8> {
    le(&format!("{xml}\0"))
}

/// An envelope with these hooks and this endpoint.
fn header(hooks: &str, endpoint: &str) -> String {
    format!(
        "<Msg SchemaVersion=\"1.1\"><Body Type=\"ByteRange\" Length=\"556\" Offset=\"0\" />{hooks}\
         <Payload Type=\"inline\" /><TargetEndpoint>{endpoint}</TargetEndpoint></Msg>"
    )
}

fn begun(header: &str) -> Vec<u8> {
    let first = "Content-Type: text/plain; charset=UTF-16\r\n\r\n";
    let second = "Content-Type: application/octet-stream\r\n\r\n";
    let mut bytes = format!("{BOUNDARY}\r\n{first}").into_bytes();
    bytes.extend(le(header));
    bytes.extend(format!("\r\n{BOUNDARY}\r\n{second}").bytes());
    bytes
}

fn body(header: &str, payload: &[u8]) -> Vec<u8> {
    [&begun(header), payload, format!("\r\n{BOUNDARY}--\r\n").as_bytes()].concat()
}

fn read(header: &str, payload: &[u8]) -> Result<PayloadRequest, Unreadable> {
    judged(&body(header, payload))
}

fn judged(body: &[u8]) -> Result<PayloadRequest, Unreadable> {
    let envelope = envelope(TYPE, body).unwrap();
    request(TYPE, body, &envelope)
}

/// The request of a client that compresses its payload.
fn ask(endpoint: &str, xml: &str) -> Result<PayloadRequest, Unreadable> {
    read(&header(ZLIB, endpoint), &deflated(&ended(xml)))
}

#[rstest]
#[case(REGISTRATION, REGISTERS, "Registration", true, true)]
#[case(LOCATION, SITE, "SiteInformationRequest", true, true)]
#[case(LOCATION, payload!("assigned-site"), "AssignedSiteRequest", true, true)]
#[case(LOCATION, payload!("mp-location"), "EnumerateMPLocationRequest", true, true)]
#[case(LOCATION, payload!("token-services"), "TokenServicesRequest", true, true)]
#[case(LOCATION, OWN, "ContentLocationRequest", true, true)]
#[case(LOCATION, CONTENT, "ContentLocationRequest", false, true)]
#[case(LOCATION, payload!("wsus"), "WSUSLocationRequest", false, true)]
#[case(LOCATION, UPDATE_SF, "UpdateSFRequest", false, false)]
#[case(LOCATION, "<MPLocationRequest/>", "MPLocationRequest", false, false)]
#[case(LOCATION, "<Registration/>", "Registration", false, false)]
#[case(LOCATION, "<siteinformationrequest/>", "siteinformationrequest", false, false)]
#[case(LOCATION, "<ContentLocationRequest/>", "ContentLocationRequest", false, true)]
#[case(LOCATION, REGISTERS, "Registration", false, false)]
#[case(REGISTRATION, SITE, "SiteInformationRequest", false, false)]
#[case(
    REGISTRATION,
    "<ClientRegistrationRequest><Data/></ClientRegistrationRequest>",
    "ClientRegistrationRequest",
    false,
    false
)]
fn what_is_asked_for_is_open_by_its_kind_and_its_endpoint(
    #[case] endpoint: &str,
    #[case] xml: &str,
    #[case] kind: &str,
    #[case] newcomer: bool,
    #[case] unasked: bool,
) {
    for (hooks, payload) in [(ZLIB, deflated(&ended(xml))), ("<Hooks/>", ended(xml)), ("", le(xml))]
    {
        let request = read(&header(hooks, endpoint), &payload).unwrap();
        assert_eq!(request.kind(), kind);
        assert_eq!(request.is_open(endpoint, Asker::Newcomer, &[]), newcomer);
        assert_eq!(request.is_open(endpoint, Asker::Unasked, &[]), unasked);
        let named = [kind.to_owned()];
        let right = (endpoint == REGISTRATION) == xml.contains("ClientRegistration");
        assert_eq!(request.is_open(endpoint, Asker::Newcomer, &named), right);
    }
}

#[test]
fn a_newcomer_may_not_ask_for_foreign_content() {
    let package = "<Package ID=\"PS100015\"/>";
    for xml in [
        OWN.replace("</ContentLocationRequest>", &format!("{package}</ContentLocationRequest>")),
        OWN.replace("<ADSite", &format!("{package}<ADSite")),
        OWN.replace("<ADSite", "<package ID=\"PS100015\"/><ADSite"),
        OWN.replace("<ADSite", "<Content ID=\"PS100015\"/><ADSite"),
        OWN.replace("ClientPackage", "clientpackage"),
    ] {
        let request = ask(LOCATION, &xml).unwrap();
        assert!(!request.is_open(LOCATION, Asker::Newcomer, &[]), "{xml}");
    }
}

/// Values of the published attack, and of its finders' second statement.
const SQL: [&str; 10] = [
    "1';exec xp_cmdshell 'whoami'--",
    "1'",
    "1;",
    "1--",
    "1\u{2019}",
    "1\u{2bc}",
    "1\u{ff07}",
    "a\tb",
    "a&#39;b",
    "a&apos;b",
];

#[test]
fn no_value_could_be_more_than_a_value_in_a_statement() {
    for sql in SQL {
        for xml in [
            UPDATE_SF.replace("UID:00000000-0000-0000-0000-000000000000", sql),
            SITE.replace("\"PS1\"", &format!("\"{sql}\"")),
            SITE.replace("1.00", sql),
            SITE.replace("/></", &format!(">{sql}</SiteCode></")),
            OWN.replace("4098", sql),
            OWN.replace("192.168.2.62", sql),
            OWN.replace("Default-First-Site-Name", sql),
            OWN.replace("Microsoft Hyper-V Network Adapter", sql),
            CONTENT.replace("PS100015", sql),
        ] {
            let read = ask(LOCATION, &xml);
            let not_plain = matches!(read, Err(Unreadable::Value(_) | Unreadable::Markup));
            assert!(not_plain, "{xml}: {read:?}");
        }
        for xml in [
            REGISTERS.replace("SMSID=\"\"", &format!("SMSID=\"{sql}\"")),
            REGISTERS.replace("\"CLIENT01\"", &format!("\"{sql}\"")),
            REGISTERS.replace("\"Netbios Name\"", &format!("\"{sql}\"")),
            REGISTERS.replace("</SignatureValue>", &format!("{sql}</SignatureValue>")),
        ] {
            let read = ask(REGISTRATION, &xml);
            let not_plain = matches!(read, Err(Unreadable::Value(_) | Unreadable::Markup));
            assert!(not_plain, "{xml}: {read:?}");
        }
    }
    let long = SITE.replace("PS1", &"A".repeat(257));
    assert_eq!(ask(LOCATION, &long), Err(Unreadable::Value("Name of SiteCode".to_owned())));
    let huge = REGISTERS.replace("</SignatureValue>", &"A".repeat(33_000));
    assert!(ask(REGISTRATION, &format!("{huge}</SignatureValue>")).is_err());
}

#[rstest]
#[case::nested(
    "<SiteInformationRequest><UpdateSFRequest/></SiteInformationRequest>",
    Unreadable::Twice
)]
#[case::deeper(
    "<SiteInformationRequest><X><updatesfrequest/></X></SiteInformationRequest>",
    Unreadable::Twice
)]
#[case::itself(
    "<SiteInformationRequest><SiteInformationRequest/></SiteInformationRequest>",
    Unreadable::Twice
)]
#[case::attribute("<SiteInformationRequest X=\"UpdateSFRequest\"/>", Unreadable::Twice)]
#[case::word("<SiteInformationRequest>UpdateSFRequest</SiteInformationRequest>", Unreadable::Twice)]
#[case::two("<SiteInformationRequest/><SiteInformationRequest/>", Unreadable::Xml)]
#[case::second_root("<SiteInformationRequest/><UpdateSFRequest/>", Unreadable::Xml)]
#[case::code_twice(
    "<SiteInformationRequest><SiteCode Name=\"A\"/><SiteCode Name=\"B\"/></SiteInformationRequest>",
    Unreadable::Twice
)]
#[case::code_in_another_case(
    "<SiteInformationRequest><SiteCode Name=\"A\"/><SITECODE Name=\"B\"/></SiteInformationRequest>",
    Unreadable::Twice
)]
#[case::id_twice("<SiteInformationRequest ID=\"a\" ID=\"b\"/>", Unreadable::Xml)]
#[case::comment("<SiteInformationRequest><!-- x --></SiteInformationRequest>", Unreadable::Markup)]
#[case::cdata("<SiteInformationRequest><![CDATA[x]]></SiteInformationRequest>", Unreadable::Markup)]
#[case::instruction("<SiteInformationRequest><?x y?></SiteInformationRequest>", Unreadable::Markup)]
#[case::doctype("<!DOCTYPE a [<!ENTITY e \"x\">]><SiteInformationRequest/>", Unreadable::Markup)]
#[case::entity("<SiteInformationRequest>&e;</SiteInformationRequest>", Unreadable::Markup)]
#[case::reference("<SiteInformationRequest>&#65;</SiteInformationRequest>", Unreadable::Markup)]
#[case::default_namespace("<SiteInformationRequest xmlns=\"x\"/>", Unreadable::Markup)]
#[case::namespace("<SiteInformationRequest xmlns:a=\"x\"/>", Unreadable::Markup)]
#[case::prefix("<a:SiteInformationRequest/>", Unreadable::Markup)]
#[case::prefix_below("<SiteInformationRequest><a:b/></SiteInformationRequest>", Unreadable::Markup)]
#[case::open("<SiteInformationRequest>", Unreadable::Xml)]
#[case::empty("", Unreadable::Xml)]
#[case::text("SiteInformationRequest", Unreadable::Xml)]
#[case::behind("<SiteInformationRequest/>x", Unreadable::Xml)]
#[case::utf_8(
    "<?xml version=\"1.0\" encoding=\"utf-8\"?><SiteInformationRequest/>",
    Unreadable::Xml
)]
#[case::zero("<SiteInformationRequest/>\0", Unreadable::Text)]
#[case::zero_within("<SiteInformationRequest/>\0<UpdateSFRequest/>", Unreadable::Text)]
fn what_readers_could_differ_in_is_refused(#[case] xml: &str, #[case] fault: Unreadable) {
    assert_eq!(ask(LOCATION, xml), Err(fault), "{xml}");
}

#[test]
fn elements_are_bounded_in_depth_and_in_number() {
    let deep = format!("<R>{}{}</R>", "<a>".repeat(16), "</a>".repeat(16));
    let many = format!("<R><a>{}</a></R>", "<b/>".repeat(1_100));
    for xml in [deep, many] {
        assert_eq!(ask(LOCATION, &xml), Err(Unreadable::Depth));
    }
}

#[test]
fn a_payload_is_utf_16_in_the_byte_order_of_clients() {
    let be: Vec<u8> = SITE.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [b"\xff\xfe", &*ended(SITE)].concat();
    assert!(read(&header(ZLIB, LOCATION), &deflated(&marked)).is_ok());
    for bytes in [
        SITE.as_bytes().to_vec(),
        be.clone(),
        [b"\xfe\xff", &*be].concat(),
        [b"\xff\xfe\xff\xfe", &*le(SITE)].concat(),
        [&*le(SITE), b"\n"].concat(),
        [&*le(SITE), b"\x00\xd8"].concat(),
        [b"\xef\xbb\xbf", SITE.as_bytes()].concat(),
    ] {
        let read = read(&header(ZLIB, LOCATION), &deflated(&bytes));
        assert!(matches!(read, Err(Unreadable::Text | Unreadable::Xml)), "{read:?}");
    }
}

#[test]
fn a_stream_is_one_and_whole_and_no_bomb() {
    let good = deflated(&ended(SITE));
    let with = |payload: &[u8]| read(&header(ZLIB, LOCATION), payload);
    assert!(with(&good).is_ok());
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    for bad in [
        &good[..good.len() - 1],
        &good[..good.len() / 2],
        &[&*good, b"x"].concat(),
        &[&*good, &*good].concat(),
        &broken,
        &good[2..],
        b"",
        b"x",
    ] {
        assert_eq!(with(bad), Err(Unreadable::Zlib));
    }
    for size in [256 * 1024 + 2, 40 << 20] {
        let bomb = deflated(&vec![b' '; size]);
        assert!(bomb.len() < 48 * 1024);
        assert_eq!(with(&bomb), Err(Unreadable::Size), "{size}");
    }
    let padded = format!("{SITE}{}", " ".repeat(128 * 1024 - SITE.len() - 1));
    assert!(ask(LOCATION, &padded).is_ok());
}

#[test]
fn what_the_hooks_say_is_what_the_payload_is() {
    let (plain, packed) = (ended(SITE), deflated(&ended(SITE)));
    assert_eq!(read(&header(ZLIB, LOCATION), &plain), Err(Unreadable::Zlib));
    let unpacked = read(&header("<Hooks/>", LOCATION), &packed);
    assert!(matches!(unpacked, Err(Unreadable::Text | Unreadable::Xml)), "{unpacked:?}");
    let signed = "<Hooks><Hook2 Name=\"clientauth\"><Property Name=\"PublicKey\">06</Property></Hook2>\
                  <Hook3 Name=\"zlib-compress\" /></Hooks>";
    assert!(read(&header(signed, LOCATION), &packed).is_ok());
    for hooks in [
        format!("{ZLIB}{ZLIB}"),
        "<Hooks><Hook3 Name=\"zlib-compress\"/><Hook3 Name=\"zlib-compress\"/></Hooks>".to_owned(),
        "<Hooks><Hook3 Name=\"zlib-compress\" x=\"y\"/></Hooks>".to_owned(),
        "<Hooks><Hook3 Name=\"ZLIB-compress\"/></Hooks>".to_owned(),
        "<Hooks><Hook3 Name=\"zlib&#45;compress\"/></Hooks>".to_owned(),
        "<Hooks><Hook3 Name=\"other\"/></Hooks>".to_owned(),
        "<Hooks><Hook4 Name=\"zlib-compress\"/></Hooks>".to_owned(),
        "<Hooks><hook3 Name=\"zlib-compress\"/></Hooks>".to_owned(),
        "<Hooks><X><Hook3 Name=\"zlib-compress\"/></X></Hooks>".to_owned(),
        "<hooks><Hook3 Name=\"zlib-compress\"/></hooks>".to_owned(),
        "<Hook3 Name=\"zlib-compress\"/>".to_owned(),
        "<X><Hook3 Name=\"zlib-compress\"/></X>".to_owned(),
        "<Hooks x=\"zlib-compress\"/>".to_owned(),
        "<Hooks/><X>zlib-compress</X>".to_owned(),
        "<X><Y><![CDATA[<Hook4 Name=\"other\"/>]]></Y></X>".to_owned(),
        format!("{ZLIB}<Body Type=\"ByteRange\" Length=\"9\" Offset=\"0\"/>"),
        format!("{ZLIB}<X><body/></X>"),
        format!("{ZLIB}<Payload Type=\"file\"/>"),
    ] {
        for payload in [&plain, &packed] {
            let read = read(&header(&hooks, LOCATION), payload);
            assert!(
                matches!(read, Err(Unreadable::Hooks | Unreadable::Field)),
                "{hooks}: {read:?}"
            );
        }
    }
    for (from, to) in [("Offset=\"0\"", "Offset=\"2\""), ("ByteRange", "File"), ("556", "-1")] {
        let header = header(ZLIB, LOCATION).replace(from, to);
        assert_eq!(read(&header, &packed), Err(Unreadable::Hooks), "{to}");
    }
}

#[test]
fn the_envelopes_other_fields_are_plain_too() {
    let payload = deflated(&ended(SITE));
    for (field, plain) in [
        ("<SourceHost>CLIENT01</SourceHost>", true),
        ("<ReplyTo>direct:CLIENT01:LS_ReplyLocations</ReplyTo>", true),
        ("<TargetHost>https://mp01.contoso.com</TargetHost>", true),
        ("<CorrelationID>{00000000-0000-0000-0000-000000000000}</CorrelationID>\r\n", true),
        ("<A><B><C>CLIENT01;CLIENT01.contoso.com;</C></B></A>", true),
        (
            "<A><B>ClientToken:{5E5A6A2C};2026-03-02T10:15:42Z\r\nClientTokenSignature:A0</B></A>",
            true,
        ),
        ("<A><B><![CDATA[ClientToken:{5E5A6A2C};2026\r\nClientTokenSignature:A0]]></B></A>", true),
        ("<A><B>CLIENT01';CLIENT01.contoso.com;</B></A>", false),
        ("<A><B><![CDATA[CLIENT01']]></B></A>", false),
        ("<A><B>&#39;</B></A>", false),
        ("<A><B x=\"a'\"/></A>", false),
        ("<A><B x=\"a&apos;b\"/></A>", false),
        ("<A><B x=\"a&#39;b\"/></A>", false),
        ("<SourceHost>CLIENT01'; exec x</SourceHost>", false),
        ("<SourceHost>CLIENT01&apos;</SourceHost>", false),
        ("<SourceHost><![CDATA[CLIENT01']]></SourceHost>", false),
        ("<SourceHost><A/>'</SourceHost>", false),
        ("<SourceHost x=\"'\"/>", false),
        ("<ReplyTo>direct:CLIENT01:x--</ReplyTo>", false),
        ("'", false),
    ] {
        let read = read(&header(&format!("{field}{ZLIB}"), LOCATION), &payload);
        if plain {
            assert!(read.is_ok(), "{field}: {read:?}");
        } else {
            assert_eq!(read, Err(Unreadable::Field), "{field}");
        }
    }
}

#[test]
fn a_body_is_two_parts_and_its_end() {
    let header = header(ZLIB, LOCATION);
    let payload = deflated(&ended(SITE));
    let begun = [begun(&header), payload.clone()].concat();
    let with = |end: &str| judged(&[&*begun, end.as_bytes()].concat());
    assert!(with(&format!("\r\n{BOUNDARY}--\r\n")).is_ok());
    assert!(with(&format!("\r\n{BOUNDARY}--")).is_ok());
    for end in [
        String::new(),
        "\r\n".to_owned(),
        format!("\r\n{BOUNDARY}"),
        format!("\r\n{BOUNDARY}\r\n"),
        format!("{BOUNDARY}--"),
        format!("\n{BOUNDARY}--"),
        format!("\r\n{BOUNDARY}-- "),
        format!("\r\n{BOUNDARY}--\r\n\r\n"),
        format!("\r\n{BOUNDARY}--\r\nx"),
        format!("\r\n{BOUNDARY}\r\n\r\nx\r\n{BOUNDARY}--"),
        format!("\r\n{BOUNDARY}--\r\n{BOUNDARY}\r\n\r\nx\r\n{BOUNDARY}--"),
    ] {
        assert_eq!(with(&end), Err(Unreadable::Parts), "{end:?}");
    }
    let whole = body(&header, &payload);
    let at = whole.windows(26).position(|w| w == b"Content-Type: application/").unwrap();
    let typed = [&whole[..at], b"Content-Encoding: gzip\r\n", &whole[at..]].concat();
    assert_eq!(judged(&typed), Err(Unreadable::Parts));
    // The message ends without a payload.
    let single =
        [&whole[..at - BOUNDARY.len() - 4], format!("\r\n{BOUNDARY}--").as_bytes()].concat();
    assert_eq!(judged(&single), Err(Unreadable::Parts));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn reading_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        encoding in prop_oneof![Just(Encoding::Plain), Just(Encoding::Zlib), Just(Encoding::Unclear)],
    ) {
        let _ = super::read(&bytes, encoding);
        let _ = super::read(&deflated(&bytes), encoding);
        let of = Envelope { source_id: None, target_endpoint: LOCATION.to_owned(), encoding, is_plain: true };
        let _ = request(TYPE, &bytes, &of);
    }

    #[test]
    fn reading_text_never_panics(
        xml in "(<|>|/|!|\\?|\\[|\\]|-|&|;|#|=|\"|'| |:|Data|RequestType|SiteInformationRequest|x){0,40}",
    ) {
        let _ = ask(LOCATION, &xml);
        let _ = ask(REGISTRATION, &format!("<ClientRegistrationRequest>{xml}"));
    }

    /// Changing any one byte of a closed request never opens it.
    #[test]
    fn no_single_change_opens_a_request_that_is_closed(
        closed in prop_oneof![
            Just(UPDATE_SF), Just(CONTENT), Just(payload!("wsus")), Just("<Request1/>"),
        ],
        at in any::<prop::sample::Index>(),
        byte: u8,
        packed: bool,
    ) {
        let payload = if packed { deflated(&ended(closed)) } else { ended(closed) };
        let mut bytes = body(&header(if packed { ZLIB } else { "" }, LOCATION), &payload);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let read = envelope(TYPE, &bytes).ok().and_then(|of| {
            let request = request(TYPE, &bytes, &of).ok()?;
            request.is_open(&of.target_endpoint, Asker::Newcomer, &[]).then_some(request)
        });
        prop_assert_eq!(read, None);
    }
}
