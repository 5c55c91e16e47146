//! Heads with one reading pass; heads with two are refused.

use proptest::prelude::*;

use super::*;

fn head(fields: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nHost: mp\r\n{fields}\r\n").into_bytes()
}

#[test]
fn a_plain_head_says_what_body_follows() {
    for (fields, body) in [
        ("", Body::Empty),
        ("Content-Length: 0\r\n", Body::Empty),
        ("Content-Length: 5\r\nExpect: 100-Continue\r\n", Body::Length(5)),
        ("transfer-encoding: Chunked\r\n", Body::Chunked),
        ("Connection: keep-alive, X\r\nX: y\r\n", Body::Empty),
        ("X: caf\u{e9}\r\nY:\ttab\t\r\nZ:\r\n", Body::Empty),
    ] {
        assert_eq!(judge_raw(&head(fields)), Ok(body), "{fields:?}");
    }
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused() {
    for (fields, denial) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Denial::FramingLengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Denial::FramingLengthAndCoding),
        ("Transfer-Encoding: xchunked\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: chunked, identity\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: identity, chunked\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: chunked;q=1\r\n", Denial::FramingCoding),
        ("Transfer-Encoding:\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: ,\r\n", Denial::FramingCoding),
        ("Transfer_Encoding: chunked\r\n", Denial::FramingCoding),
        ("Transfer-Encoding: \x0bchunked\r\n", Denial::FramingHead),
        ("Transfer-Encoding: chunked\0\r\n", Denial::FramingHead),
        ("Content-Length: +5\r\n", Denial::FramingLength),
        ("Content-Length: -1\r\n", Denial::FramingLength),
        ("Content-Length: 0x5\r\n", Denial::FramingLength),
        ("Content-Length: 5, 6\r\n", Denial::FramingLength),
        ("Content-Length: 5, 5\r\n", Denial::FramingLength),
        ("Content-Length:\r\n", Denial::FramingLength),
        ("Content-Length: 5 5\r\n", Denial::FramingLength),
        ("Content-Length: 18446744073709551621\r\n", Denial::FramingLength),
        ("Content-Length: 0000000000000000000000000000000000000005\r\n", Denial::FramingLength),
        ("Content-Length: \u{0665}\r\n", Denial::FramingLength),
        ("Content-Length: 5_0\r\n", Denial::FramingLength),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Denial::FramingLength),
        ("Content_Length: 5\r\n", Denial::FramingLength),
        ("Expect: 100-continued\r\n", Denial::FramingExpectation),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Denial::FramingHead),
        ("Host: other\r\n", Denial::HostInvalid),
        ("Content-Length: 5\r\nConnection: Content-Length\r\n", Denial::FramingHead),
        ("Connection: close, content_length\r\nContent-Length: 5\r\n", Denial::FramingHead),
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", Denial::FramingHead),
        ("Connection: keep-alive,\tHOST\r\n", Denial::FramingHead),
        ("X : y\r\n", Denial::FramingHead),
        ("X\t: y\r\n", Denial::FramingHead),
        (" X: y\r\n", Denial::FramingHead),
        ("A: b\r\n folded\r\n", Denial::FramingHead),
        (": y\r\n", Denial::FramingHead),
        ("no colon\r\n", Denial::FramingHead),
        ("X: a\rb\r\n", Denial::FramingHead),
        ("X: a\nY: b\r\n", Denial::FramingHead),
        ("X: a\0b\r\n", Denial::FramingHead),
        ("X\u{e9}: a\r\n", Denial::FramingHead),
    ] {
        assert_eq!(judge_raw(&head(fields)), Err(denial), "{fields:?}");
    }
}

#[test]
fn the_request_line_has_one_form() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/9.9",
        "GET / http/1.1",
        "get / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a\x01b HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET; / HTTP/1.1",
        "GET /",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
    ] {
        let head = format!("{line}\r\nHost: mp\r\n\r\n");
        assert_eq!(judge_raw(head.as_bytes()), Err(Denial::FramingHead), "{line:?}");
    }
    let fragment = b"GET /a#b HTTP/1.1\r\nHost: mp\r\n\r\n";
    assert_eq!(judge_raw(fragment), Err(Denial::PathMalformed));
    assert_eq!(judge_raw(b"CCM_POST / HTTP/1.1\r\nHost: mp\r\n\r\n"), Ok(Body::Empty));
}

#[test]
fn bare_lf_missing_host_and_http_1_0_coding_are_refused() {
    assert_eq!(judge_raw(b"GET / HTTP/1.1\nHost: mp\n\n"), Err(Denial::FramingHead));
    assert_eq!(judge_raw(b"GET / HTTP/1.1\r\n\r\n"), Err(Denial::HostInvalid));
    let old = b"POST / HTTP/1.0\r\nHost: mp\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge_raw(old), Err(Denial::FramingCoding));
}

#[test]
fn fields_of_a_connection_have_no_place_in_http_2() {
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "5"),
        ("upgrade", "h2c"),
        ("proxy-connection", "x"),
        ("te", "gzip"),
        ("content-length", "5,5"),
    ] {
        let fields = [("host", &b"mp"[..]), (name, value.as_bytes())];
        assert!(judge_fields(fields.into_iter()).is_err(), "{name}");
    }
    let fields = [("host", &b"mp"[..]), ("te", b"trailers"), ("content-length", b"7")];
    assert_eq!(judge_fields(fields.into_iter()), Ok(()));
    assert_eq!(judge_fields(fields.into_iter().skip(1)), Err(Denial::HostInvalid));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_passes_has_no_bare_line_end(bytes: Vec<u8>) {
        if judge_raw(&bytes).is_ok() {
            prop_assert!(bytes.ends_with(b"\r\n\r\n"));
        }
    }
}

#[test]
fn a_head_ends_at_its_empty_line_however_it_arrives() {
    let head = b"GET / HTTP/1.1\r\nHost: mp\r\n\r\nGET /next";
    for step in 1..head.len() {
        let mut end = HeadEnd::default();
        let found = (step..=head.len() + step)
            .step_by(step)
            .find_map(|seen| end.find(&head[..seen.min(head.len())]).unwrap());
        assert_eq!(found, Some(28), "by {step}");
    }
    for text in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: mp\n\n", "\n", "GET /\r\r\n\n"] {
        assert!(HeadEnd::default().find(text.as_bytes()).is_err(), "{text:?}");
    }
    assert_eq!(HeadEnd::default().find(b"GET / HTTP/1.1\r\nHost: mp\r\n"), Ok(None));
}

#[test]
fn a_head_is_read_into_its_parts() {
    let head =
        parse(b"PUT /a?b HTTP/1.0\r\nHost:mp\r\nX:\t y \r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!((head.method, head.target, head.version), ("PUT", &b"/a?b"[..], Version::Http10));
    assert_eq!(head.body, Body::Length(5));
    let fields = [("Host", &b"mp"[..]), ("X", &b"y"[..]), ("Content-Length", &b"5"[..])];
    assert_eq!(head.fields, fields);
}
