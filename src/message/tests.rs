//! Tests of the module: real messages of clients, and look-alikes that only some parsers would
//! accept.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const REGISTRATION: &str = include_str!("../../tests/cases/messages/registration.xml");
const LOCATION: &str = include_str!("../../tests/cases/messages/location.xml");
const POLICY: &str = include_str!("../../tests/cases/messages/policy.xml");

const BOUNDARY: &str = "aAbBcCdDv1234567890VxXyYzZ";
const TYPE: &[u8] = b"multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";
const PLAIN: &str = "Content-Type: text/plain; charset=UTF-16\r\n";
const CLIENT: &str = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";

fn le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A body with a first part that has these header fields and this content, and a payload after it.
fn body(boundary: &str, fields: &str, content: &[u8]) -> Vec<u8> {
    let payload = "Content-Type: application/octet-stream\r\n\r\nx\x01\x02--\r\n";
    let begin = format!("--{boundary}\r\n{fields}\r\n");
    let end = format!("\r\n--{boundary}\r\n{payload}\r\n--{boundary}--\r\n");
    [begin.as_bytes(), content, end.as_bytes()].concat()
}

fn message(xml: &str) -> Vec<u8> {
    body(BOUNDARY, PLAIN, &[b"\xff\xfe", &le(xml)[..]].concat())
}

fn read(xml: &str) -> Result<Envelope, MessageFault> {
    envelope(TYPE, &message(xml))
}

/// A registration with this endpoint, and with `before` in front of it.
fn with(before: &str, endpoint: &str) -> String {
    format!(
        "<Msg SchemaVersion=\"1.1\">{before}<TargetEndpoint>{endpoint}</TargetEndpoint>\
         <Timeout>60000</Timeout></Msg>"
    )
}

#[test]
fn registration_and_location_are_open_and_policy_is_not() {
    let registration = read(REGISTRATION).unwrap();
    assert_eq!(registration.source_id, None);
    assert_eq!(registration.target_endpoint, "MP_ClientRegistration");
    assert!(registration.is_open_to_everyone());
    let location = read(LOCATION).unwrap();
    assert_eq!(location.source_id.as_deref(), Some(CLIENT));
    assert!(location.is_open_to_everyone());
    let policy = read(POLICY).unwrap();
    assert_eq!(policy.source_id.as_deref(), Some(CLIENT));
    assert!(!policy.is_open_to_everyone());
    for endpoint in ["MP_TokenManager", "mp_locationmanager", "MP_LocationManager2", "x"] {
        assert!(!read(&with("", endpoint)).unwrap().is_open_to_everyone(), "{endpoint}");
    }
}

#[test]
fn utf_16_is_read_in_either_byte_order() {
    for content in [
        [b"\xff\xfe", &le(LOCATION)[..]].concat(),
        [b"\xfe\xff", &be(LOCATION)[..]].concat(),
        le(LOCATION),
        le(&format!("{LOCATION}\0")),
        le(&format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n{LOCATION}\r\n")),
    ] {
        assert_eq!(envelope(TYPE, &body(BOUNDARY, PLAIN, &content)), read(LOCATION));
    }
    for content in [
        LOCATION.as_bytes().to_vec(),
        be(LOCATION),
        [&le(LOCATION)[..], b"\n"].concat(),
        [b"\xff\xfe\xff\xfe", &le(LOCATION)[..]].concat(),
        [b"\xef\xbb\xbf", LOCATION.as_bytes()].concat(),
        [&le(LOCATION)[..], b"\x00\xd8"].concat(),
        le(&format!("{LOCATION}\0\0")),
        le(&LOCATION.replace("CLIENT01", "A\u{1}")),
        le(&LOCATION.replace("CLIENT01", "A\u{ffff}")),
        vec![],
    ] {
        let read = envelope(TYPE, &body(BOUNDARY, PLAIN, &content));
        assert!(matches!(read, Err(MessageFault::Text | MessageFault::Xml)), "{read:?}");
    }
}

#[test]
fn multipart_parts_may_be_named_and_boundaries_arbitrary() {
    let content = le(REGISTRATION);
    for boundary in ["----7e8f(free)'form'+1:2?/,=_.", "x", &"b".repeat(70)] {
        let fields = format!("Content-Disposition: form-data; name=\"Msg\"\r\n{PLAIN}");
        let typed = format!("Multipart/Form-Data; charset=x; Boundary=\"{boundary}\"");
        let read_named = envelope(typed.as_bytes(), &body(boundary, &fields, &content));
        assert_eq!(read_named, read(REGISTRATION), "{boundary}");
    }
    let bare = format!("multipart/mixed;boundary={BOUNDARY}");
    assert!(envelope(bare.as_bytes(), &body(BOUNDARY, "", &content)).is_ok());
    let single = [b"--x\r\n\r\n", &content[..], b"\r\n--x--"].concat();
    assert!(envelope(b"multipart/mixed; boundary=x", &single).is_ok());
}

#[rstest]
fn a_content_type_that_names_no_one_boundary_is_refused(
    #[values(
        "",
        "multipart",
        "multipart/mixed",
        "multipart/; boundary=x",
        "multipart/mixed; boundary=",
        "multipart/mixed; boundary=\"\"",
        "multipart/mixed; boundary=\"x",
        "multipart/mixed; boundary=x\"",
        "multipart/mixed; boundary=x; boundary=x",
        "multipart/mixed; boundary=x; Boundary=y",
        "multipart/mixed; boundary =x",
        "multipart/mixed; boundary=x y",
        "multipart/mixed; boundary=\"x \"",
        "multipart/mixed; boundary=\"a\\x\"",
        "multipart/mixed; a=\"; boundary=y; b=\"; boundary=x",
        "multipart/mixed, multipart/mixed; boundary=x",
        "multipart/mixed; boundary=x;",
        "multipart/mixed; boundary=ä",
        "text/xml; boundary=x"
    )]
    content_type: &str,
) {
    let body = body("x", PLAIN, &le(REGISTRATION));
    assert_eq!(envelope(content_type.as_bytes(), &body), Err(MessageFault::ContentType));
}

#[test]
fn a_body_that_begins_with_another_boundary_is_refused() {
    // A parser that uses the content type sees the policy request as the first part.
    let inner = body("y", PLAIN, &le(REGISTRATION));
    let hidden = [&inner[..], b"\r\n", &message(POLICY)].concat();
    assert_eq!(envelope(TYPE, &hidden), Err(MessageFault::Boundary));
    let good = message(REGISTRATION);
    for before in ["\r\n", "\n", " ", "preamble\r\n", "-"] {
        assert_eq!(
            envelope(TYPE, &[before.as_bytes(), &good].concat()),
            Err(MessageFault::Boundary)
        );
    }
    let line = format!("--{BOUNDARY}");
    let longer = String::from_utf8_lossy(&good).replacen(&line, &format!("{line}x"), 1);
    assert_eq!(envelope(TYPE, longer.as_bytes()), Err(MessageFault::Boundary));
    assert_eq!(envelope(TYPE, good.strip_prefix(b"-").unwrap()), Err(MessageFault::Boundary));
    assert_eq!(envelope(TYPE, b""), Err(MessageFault::Boundary));
}

#[test]
fn a_part_that_ends_where_only_some_look_is_refused() {
    let content = le(REGISTRATION);
    let part = |begin: &str, end: &str| {
        let bytes = [begin.as_bytes(), &content, end.as_bytes()].concat();
        envelope(b"multipart/mixed; boundary=x", &bytes)
    };
    assert!(part("--x\r\n\r\n", "\r\n--x--").is_ok());
    for (begin, end) in [
        ("--x\r\n\r\n", ""),
        ("--x\r\n\r\n", "\r\n--x"),
        ("--x\r\n\r\n", "\r\n--xy"),
        ("--x\r\n\r\n", "\n--x--"),
        ("--x\r\n\r\n", "--x--"),
        ("--x\r\n\r\n", "\r\n--x \r\n"),
        ("--x\r\n", "\r\n--x--"),
        ("--x\r\n--x\r\n\r\n", "\r\n--x--"),
        ("--x\r\n\n", "\r\n--x--"),
        ("--x\r\nA: b\r\n c\r\n\r\n", "\r\n--x--"),
        ("--x\r\nA : b\r\n\r\n", "\r\n--x--"),
        ("--x\r\nA: b\nC: d\r\n\r\n", "\r\n--x--"),
        ("--x\r\nContent-Type: a/b\r\ncontent-type: a/b\r\n\r\n", "\r\n--x--"),
        ("--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", "\r\n--x--"),
        ("--x\r\nContent-Transfer-Encoding: base64\r\n\r\n", "\r\n--x--"),
        ("--x\r\nContent-Encoding: gzip\r\n\r\n", "\r\n--x--"),
        ("--x\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\ni:\r\n\r\n", "\r\n--x--"),
    ] {
        let read = part(begin, end);
        assert!(
            matches!(read, Err(MessageFault::Part | MessageFault::Text)),
            "{begin:?} {end:?}: {read:?}"
        );
    }
    let large = body(BOUNDARY, PLAIN, &le(&" ".repeat(40_000)));
    assert_eq!(envelope(TYPE, &large), Err(MessageFault::Size));
}

#[rstest]
#[case::injection(&format!("<SourceID>{CLIENT}'; exec xp_cmdshell 'whoami'--</SourceID>"), MessageFault::SourceId)]
#[case::short("<SourceID>GUID:5E5A6A2C</SourceID>", MessageFault::SourceId)]
#[case::space(&format!("<SourceID> {CLIENT}</SourceID>"), MessageFault::SourceId)]
#[case::line(&format!("<SourceID>{CLIENT}\n</SourceID>"), MessageFault::SourceId)]
#[case::prefix("<SourceID>5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C</SourceID>", MessageFault::SourceId)]
#[case::lower(
    "<SourceID>guid:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C</SourceID>",
    MessageFault::SourceId
)]
#[case::braces(
    "<SourceID>GUID:{5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C}</SourceID>",
    MessageFault::SourceId
)]
#[case::digits(
    "<SourceID>GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4G</SourceID>",
    MessageFault::SourceId
)]
#[case::groups(
    "<SourceID>GUID:5E5A6A2C1-D2E-4F3A-8B4C-9D0E1F2A3B4C</SourceID>",
    MessageFault::SourceId
)]
#[case::wide(
    "<SourceID>GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4\u{ff23}</SourceID>",
    MessageFault::SourceId
)]
#[case::twice(&format!("<SourceID>{CLIENT}</SourceID><SourceID>x</SourceID>"), MessageFault::Place)]
#[case::empty_twice("<SourceID/><SourceID/>", MessageFault::Place)]
#[case::deeper("<Hooks><SourceID>'</SourceID></Hooks>", MessageFault::Place)]
#[case::both(&format!("<SourceID>{CLIENT}</SourceID><X><SourceID>'</SourceID></X>"), MessageFault::Place)]
#[case::inside(&format!("<SourceID>{CLIENT}<SourceID>'</SourceID></SourceID>"), MessageFault::Place)]
#[case::child(&format!("<SourceID><X/>{CLIENT}</SourceID>"), MessageFault::Place)]
#[case::other_case("<sourceid>'</sourceid>", MessageFault::Place)]
#[case::namespace("<m:SourceID xmlns:m=\"m\">'</m:SourceID>", MessageFault::Place)]
#[case::attribute("<SourceID x=\"'\"/>", MessageFault::Place)]
#[case::other_endpoint(
    "<X><TargetEndpoint>MP_PolicyManager</TargetEndpoint></X>",
    MessageFault::Place
)]
#[case::first_endpoint("<TargetEndpoint>MP_PolicyManager</TargetEndpoint>", MessageFault::Place)]
#[case::in_cdata("<X><![CDATA[<SourceID>'</SourceID>]]></X>", MessageFault::Place)]
#[case::in_attribute("<X a='SourceID>x'/>", MessageFault::Place)]
#[case::in_entities("<X>&lt;SourceID&gt;'&lt;/SourceID&gt;</X>", MessageFault::Place)]
#[case::cdata(&format!("<SourceID><![CDATA[{CLIENT}]]></SourceID>"), MessageFault::Markup)]
#[case::cdata_tail(&format!("<SourceID>{CLIENT}<![CDATA[']]></SourceID>"), MessageFault::Markup)]
#[case::comment(&format!("<SourceID>{CLIENT}<!-- ' --></SourceID>"), MessageFault::Markup)]
#[case::comment_away("<!-- <SourceID>'</SourceID> -->", MessageFault::Markup)]
#[case::instruction("<?x <SourceID>'</SourceID>?>", MessageFault::Markup)]
#[case::reference(
    "<SourceID>&#71;UID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C</SourceID>",
    MessageFault::Markup
)]
#[case::entity("<X>&evil;</X>", MessageFault::Markup)]
#[case::entity_in_attribute("<X a=\"&evil;\"/>", MessageFault::Markup)]
#[case::address(
    "<TargetAddress>mp:[http]MP_PolicyManager</TargetAddress>",
    MessageFault::TargetAddress
)]
fn what_would_reach_the_database_or_another_endpoint_is_refused(
    #[case] before: &str,
    #[case] fault: MessageFault,
) {
    assert_eq!(read(&with(before, "MP_ClientRegistration")), Err(fault), "{before}");
}

#[rstest]
#[case::markup("MP_ClientRegistration<!---->", MessageFault::Markup)]
#[case::cdata("<![CDATA[MP_ClientRegistration]]>", MessageFault::Markup)]
#[case::reference("MP&#95;ClientRegistration", MessageFault::Markup)]
#[case::empty("", MessageFault::TargetEndpoint)]
#[case::two("MP_ClientRegistration MP_PolicyManager", MessageFault::TargetEndpoint)]
#[case::path("../MP_ClientRegistration", MessageFault::TargetEndpoint)]
#[case::look_alike("M\u{420}_ClientRegistration", MessageFault::TargetEndpoint)]
#[case::long(
    "MP_ClientRegistrationMP_ClientRegistrationMP_ClientRegistrationMP_",
    MessageFault::TargetEndpoint
)]
fn an_endpoint_is_one_plain_name(#[case] endpoint: &str, #[case] fault: MessageFault) {
    assert_eq!(read(&with("", endpoint)), Err(fault));
}

#[test]
fn what_clients_may_write_around_the_fields_is_read() {
    for before in [
        "<SourceID></SourceID>",
        "<SourceID/>",
        "<X><![CDATA[ClientToken:{5E5A6A2C};2026-03-02T10:15:42Z\r\nClientTokenSignature:A]]></X>",
        "<X a=\"1 &gt; 0\" b='\"'>a &amp; b &#x41;&#10;</X>",
        "<TargetAddress>mp:MP_ClientRegistration</TargetAddress>",
    ] {
        let read = read(&with(before, "\r\n MP_ClientRegistration\t")).unwrap();
        assert_eq!((read.source_id, &*read.target_endpoint), (None, "MP_ClientRegistration"));
    }
}

#[test]
fn what_is_not_well_formed_or_has_another_root_is_refused() {
    let good = with("", "MP_ClientRegistration");
    let doctype = "<!DOCTYPE Msg [<!ENTITY e SYSTEM \"file:///c:/x\">]>";
    for (xml, fault) in [
        ("", MessageFault::Xml),
        ("Msg", MessageFault::Xml),
        ("<Msg/>", MessageFault::TargetEndpoint),
        (&good.replace("</Msg>", ""), MessageFault::Xml),
        (&good.replace("</Timeout>", "</Timeoutx>"), MessageFault::Xml),
        (&good.replace("Msg", "msg"), MessageFault::Xml),
        (&good.replace("Timeout>", "Time\u{f6}ut>"), MessageFault::Xml),
        (&good.replace("60000", "a & b"), MessageFault::Xml),
        (&good.replace("60000", "a ]]> b"), MessageFault::Xml),
        (&good.replace("60000", "&#0;"), MessageFault::Xml),
        (&good.replace("60000", "&#xFFFF;"), MessageFault::Xml),
        (&good.replace("60000", "&#xD800;"), MessageFault::Xml),
        (&good.replace("\"1.1\"", "\"1.1\" SchemaVersion=\"1.1\""), MessageFault::Xml),
        (&good.replace("\"1.1\"", "1.1"), MessageFault::Xml),
        (&good.replace("1.1", "<"), MessageFault::Xml),
        (&good.replace("1.1", "a & b"), MessageFault::Xml),
        (&format!("{good}{good}"), MessageFault::Xml),
        (&format!("{good}x"), MessageFault::Xml),
        (&format!("x{good}"), MessageFault::Xml),
        (&format!("&amp;{good}"), MessageFault::Xml),
        (&format!("<X>{good}</X>"), MessageFault::Xml),
        (&format!("{doctype}{good}"), MessageFault::Markup),
        (&format!("{good}<!-- -->"), MessageFault::Markup),
        (&format!(" <?xml version=\"1.0\"?>{good}"), MessageFault::Xml),
        (&format!("<?xml version=\"1.1\"?>{good}"), MessageFault::Xml),
        (&format!("<?xml version=\"1.0\" encoding=\"utf-7\"?>{good}"), MessageFault::Xml),
        (&with(&"<a>".repeat(16), "x"), MessageFault::Depth),
    ] {
        assert_eq!(read(xml), Err(fault), "{xml}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn reading_never_panics(
        kind in prop::collection::vec(any::<u8>(), 0..40),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = envelope(&kind, &bytes);
        let _ = envelope(TYPE, &bytes);
        let _ = envelope(TYPE, &body(BOUNDARY, "", &bytes));
        let _ = envelope(TYPE, &[format!("--{BOUNDARY}\r\n").as_bytes(), &bytes].concat());
    }

    #[test]
    fn reading_text_never_panics(
        xml in "(<|>|/|!|\\?|\\[|\\]|-|&|;|#|=|\"|'| |Msg|SourceID|CDATA|x|\u{fffd}){0,40}",
    ) {
        let _ = read(&xml);
        let _ = read(&with(&xml, "MP_ClientRegistration"));
    }

    /// Changing any one byte of a message that needs a token never opens it.
    #[test]
    fn no_single_change_opens_a_policy_message(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = message(POLICY);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert!(!envelope(TYPE, &bytes).is_ok_and(|read| read.is_open_to_everyone()));
    }

    /// A body that is cut anywhere has the same envelope as the whole, from the prefix that holds
    /// the first part.
    #[test]
    fn a_body_that_arrives_in_pieces_has_the_envelope_of_the_whole(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|noise| body(BOUNDARY, PLAIN, &noise)),
            "[-aAx\r\n]{0,60}".prop_map(String::into_bytes),
            "[-x\r\n:]{0,40}".prop_map(|text| format!("--{BOUNDARY}\r\n{text}--{BOUNDARY}{text}").into_bytes()),
            Just(message(REGISTRATION)),
            Just(message(POLICY)),
        ],
        cuts in prop::collection::vec(1_usize..500, 1..200),
    ) {
        let mut part = FirstPart::new(TYPE).unwrap();
        let whole = envelope(TYPE, &bytes);
        let (mut here, mut cuts) = (0, cuts.into_iter().cycle());
        let found = loop {
            match part.end(&bytes[..here]) {
                Ok(Some(end)) => break envelope(TYPE, &bytes[..end]),
                Ok(None) if here == bytes.len() => break envelope(TYPE, &bytes),
                Ok(None) => here = bytes.len().min(here + cuts.next().unwrap()),
                Err(fault) => break Err(fault),
            }
        };
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn a_source_that_is_read_is_a_client_or_none(
        id in "(GUID:)?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}['; -]{0,2}",
    ) {
        let read = read(&with(&format!("<SourceID>{id}</SourceID>"), "MP_LocationManager"));
        let whole = id.starts_with("GUID:") && id.len() == 41;
        prop_assert_eq!(read.ok().and_then(|read| read.source_id), whole.then_some(id));
    }
}
