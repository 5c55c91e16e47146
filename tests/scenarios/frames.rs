//! HTTP/2 conformance: every frame of RFC 9113 and RFC 7541, in allowed and forbidden places, and
//! the required reaction. The cost of floods is tested in `http2`.

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PRIORITY_FIELDS, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, request,
};
use crate::support::{Gateway, Http2, Liar, Part, Plan, Then, connect, eventually};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";
/// Its response never comes, so its stream stays open.
const OPEN_HANG: &str = "/CCM_Client/hang";
const UPLOAD: &str = "/SMS_FSP/.sms_fsp";
const UPLOAD_HANG: &str = "/SMS_FSP/.sms_fsp?hang";

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// The required outcome of a case.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// The connection ends, with one of these codes if it sends one.
    End(&'static [u32]),
    /// Stream 1 is reset with one of these codes, or refused with 400, or the connection ends as
    /// above (RFC 9113 §5.4.2 allows both).
    Reset(&'static [u32]),
    /// No error: the connection stays open, and no stream is reset.
    GoOn,
    /// Stream 1 gets a 200 response.
    Answer,
}

/// The observed outcome.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    End(Option<u32>),
    Reset(u32),
    Answer(u16),
    Pong,
}

fn code(frame: &Frame, at: usize) -> u32 {
    let bytes = frame.payload.get(at..at + 4).unwrap();
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// Sends frames and a PING, and reads until `Must` is decided.
fn what_comes(gateway: &Gateway, frames: &[u8], must: Must) -> Came {
    let mut http2 = Http2::open(gateway);
    http2.0.send(frames);
    http2.send(PING, 0, 0, b"sitegate");
    loop {
        let Some(frame) = http2.next() else { return Came::End(None) };
        match (frame.kind, must) {
            (GOAWAY, _) if code(&frame, 4) != 0 => return Came::End(Some(code(&frame, 4))),
            (RST_STREAM, Must::Reset(_) | Must::GoOn) => return Came::Reset(code(&frame, 0)),
            (RST_STREAM, Must::Answer) if frame.stream == 1 => {
                return Came::Reset(code(&frame, 0));
            }
            (HEADERS, Must::Reset(_) | Must::Answer) if frame.stream == 1 => {
                return Came::Answer(crate::support::http2::status(&frame.payload));
            }
            (PING, Must::GoOn | Must::End(_))
                if frame.payload == b"sitegate" && frame.flags == 1 =>
            {
                return Came::Pong;
            }
            _ => {}
        }
    }
}

fn holds(must: Must, came: &Came) -> bool {
    match (must, came) {
        (Must::End(_) | Must::Reset(_), Came::End(None)) => true,
        (Must::End(codes), Came::End(Some(code))) => codes.contains(code),
        (Must::Reset(codes), Came::End(Some(code)) | Came::Reset(code)) => codes.contains(code),
        (Must::Reset(_), Came::Answer(400)) => true,
        (Must::GoOn, Came::Pong) => true,
        (Must::Answer, Came::Answer(200)) => true,
        _ => false,
    }
}

/// Cases: the section, a name, the frames, and the required outcome.
type Cases = Vec<(&'static str, &'static str, Vec<Vec<u8>>, Must)>;

fn hold(cases: Cases) {
    let liar = Liar::start(|request, _| {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        if request.contains("hang") {
            (Vec::new(), Then::Hang)
        } else {
            (vec![Part::Bytes(good)], Then::Keep)
        }
    });
    let gateway = Plan::to(&liar.url()).start();
    let ask = format!("GET {OPEN} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    let mut other = connect(&gateway);
    let mut faults = Vec::new();
    for (section, what, frames, must) in cases {
        let came = what_comes(&gateway, &frames.concat(), must);
        println!("{section} {what}: {came:?}");
        if !holds(must, &came) {
            faults.push(format!("{section} {what}: {came:?}, and it must {must:?}"));
        }
        other.send(ask.as_bytes());
        assert_eq!(other.read_answer().0, 200, "{section} {what}: another connection goes on");
    }
    assert!(faults.is_empty(), "{faults:#?}");
    drop(other);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
}

fn get() -> Vec<u8> {
    request("GET", OPEN, &[])
}

fn post() -> Vec<u8> {
    request("POST", UPLOAD, &[])
}

/// A complete request without a body.
fn asked(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &get())
}

/// A request whose response never comes.
fn waiting(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", OPEN_HANG, &[]))
}

/// The head of an upload.
fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &post())
}

/// The head of an upload that the backend never answers.
fn begun_waiting(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", UPLOAD_HANG, &[]))
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn cancelled(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// The priority fields that precede a header block.
fn dependent(on: u32, weight: u8) -> Vec<u8> {
    [&on.to_be_bytes()[..], &[weight]].concat()
}

#[test]
fn what_the_book_allows_goes_on_or_is_answered() {
    let get = get();
    let (one, rest) = get.split_at(5);
    let (two, three) = rest.split_at(5);
    let all = END_HEADERS | END_STREAM;
    let padded = [&[6][..], &get, &[0; 6]].concat();
    let with_priority = [dependent(0, 15), get.clone()].concat();
    let with_both = [&[6][..], &dependent(0, 255), &get, &[0; 6]].concat();
    let trailers = block(&[("x-trailer", "x")]);
    // :method GET, :scheme https and other static-table entries; the rest with indexed names.
    let literal =
        |first: u8, text: &str| [&[first, text.len() as u8][..], text.as_bytes()].concat();
    let indexed = [&[0x82, 0x87][..], &literal(0x41, Gateway::HOST), &literal(0x44, OPEN)].concat();
    let unindexed =
        [&[0x82, 0x87][..], &literal(0x01, Gateway::HOST), &literal(0x04, OPEN)].concat();
    // "/CCM_Client/x" is not in the static table; `*/*` for accept is Huffman-coded.
    let huffman = [&indexed[..], &[0x53, 0x83, 0xf9, 0x63, 0xe7]].concat();
    let kept = [&indexed[..], &[0x40, 1, b'x', 1, b'y', 0xbe, 0xbe]].concat();
    let h = |flags: u8, payload: &[u8]| frame(HEADERS, flags, 1, payload);
    let with = |more: Vec<u8>| vec![more, asked(1)];
    let cases: Cases = vec![
        ("9113 3.4", "a request", vec![asked(1)], Must::Answer),
        ("9113 4.1", "a frame that nobody knows", with(frame(0xbb, 0xff, 0, b"x")), Must::Answer),
        ("9113 4.1", "one on a stream", with(frame(0xbb, 0xff, 99, b"x")), Must::Answer),
        ("9113 4.1", "flags that nobody knows", with(frame(PING, 0x16, 0, &[0; 8])), Must::Answer),
        ("9113 4.1", "the reserved bit", with(frame(PING, 0, 1 << 31, &[0; 8])), Must::Answer),
        (
            "9113 4.2",
            "16 KiB in a frame",
            vec![begun(1), frame(DATA, 1, 1, &[0; 16384])],
            Must::Answer,
        ),
        ("9113 6.1", "a body", vec![begun(1), frame(DATA, 1, 1, b"x")], Must::Answer),
        (
            "9113 6.1",
            "a body in many frames",
            vec![
                begun(1),
                frame(DATA, 0, 1, b"x"),
                frame(DATA, 0, 1, b""),
                frame(DATA, 1, 1, b"x"),
            ],
            Must::Answer,
        ),
        (
            "9113 6.1",
            "a padded body",
            vec![begun(1), frame(DATA, PADDED | END_STREAM, 1, &[3, b'x', 0, 0, 0])],
            Must::Answer,
        ),
        (
            "9113 6.1",
            "padding alone",
            vec![begun(1), frame(DATA, PADDED | END_STREAM, 1, &[3, 0, 0, 0])],
            Must::Answer,
        ),
        ("9113 6.2", "a padded head", vec![h(all | PADDED, &padded)], Must::Answer),
        (
            "9113 6.2",
            "priority in a head",
            vec![h(all | PRIORITY_FIELDS, &with_priority)],
            Must::Answer,
        ),
        (
            "9113 6.2",
            "both in a head",
            vec![h(all | PADDED | PRIORITY_FIELDS, &with_both)],
            Must::Answer,
        ),
        (
            "9113 6.3",
            "the least weight",
            with(frame(PRIORITY, 0, 1, &dependent(0, 0))),
            Must::Answer,
        ),
        ("9113 6.3", "the greatest", with(frame(PRIORITY, 0, 1, &dependent(0, 255))), Must::Answer),
        (
            "9113 6.3",
            "alone on another stream",
            with(frame(PRIORITY, 0, 1, &dependent(1 << 31 | 3, 9))),
            Must::Answer,
        ),
        (
            "9113 6.3",
            "a stream that is idle",
            with(frame(PRIORITY, 0, 9, &dependent(0, 9))),
            Must::Answer,
        ),
        (
            "9113 6.3",
            "one that has ended",
            vec![waiting(3), cancelled(3), frame(PRIORITY, 0, 3, &dependent(0, 9))],
            Must::GoOn,
        ),
        ("9113 6.4", "a reset", vec![waiting(1), cancelled(1)], Must::GoOn),
        (
            "9113 7",
            "a reset for a reason that nobody knows",
            vec![waiting(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])],
            Must::GoOn,
        ),
        (
            "9113 7",
            "a good-bye for a reason that nobody knows",
            vec![waiting(1), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])],
            Must::GoOn,
        ),
        ("9113 6.5", "settings", with(setting(3, 100)), Must::Answer),
        ("9113 6.5.2", "a setting that nobody knows", with(setting(0xff, 1)), Must::Answer),
        (
            "9113 6.5.3",
            "a setting twice",
            with(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9])),
            Must::Answer,
        ),
        ("9113 6.5", "settings taken", with(frame(SETTINGS, 1, 0, &[])), Must::Answer),
        ("9113 6.7", "a ping", vec![frame(PING, 0, 0, &[1; 8])], Must::GoOn),
        ("9113 6.7", "a ping's answer", vec![frame(PING, 1, 0, b"sitegate")], Must::GoOn),
        ("9113 6.8", "a good-bye", vec![asked(1), frame(GOAWAY, 0, 0, &[0; 8])], Must::Answer),
        ("9113 6.9", "a window of the connection", with(window(0, 1)), Must::Answer),
        ("9113 6.9", "a window of a stream", vec![waiting(1), window(1, 1)], Must::GoOn),
        (
            "9113 6.9.2",
            "a window that becomes negative, and opens again",
            vec![setting(4, 1), asked(1), setting(4, 0), window(1, 100)],
            Must::Answer,
        ),
        (
            "9113 6.10",
            "a head in pieces",
            vec![
                frame(HEADERS, END_STREAM, 1, one),
                frame(CONTINUATION, 0, 1, two),
                frame(CONTINUATION, END_HEADERS, 1, three),
            ],
            Must::Answer,
        ),
        (
            "9113 6.10",
            "an empty piece",
            vec![frame(HEADERS, END_STREAM, 1, &get), frame(CONTINUATION, END_HEADERS, 1, &[])],
            Must::Answer,
        ),
        (
            "9113 8.1",
            "trailers",
            vec![begun(1), frame(DATA, 0, 1, b"x"), frame(HEADERS, all, 1, &trailers)],
            Must::Answer,
        ),
        ("7541 6.2.1", "indexed names", vec![h(all, &indexed)], Must::Answer),
        ("7541 6.2.2", "names that are not kept", vec![h(all, &unindexed)], Must::Answer),
        ("7541 5.2", "Huffman's code", vec![h(all, &huffman)], Must::Answer),
        ("7541 2.3.3", "what was kept", vec![h(all, &kept)], Must::Answer),
        (
            "7541 6.3",
            "another size of the table",
            vec![h(all, &[&[0x20][..], &get].concat())],
            Must::Answer,
        ),
        (
            "7541 4.2",
            "two of them",
            vec![h(all, &[&[0x20, 0x3f, 0xe1, 0x1f][..], &get].concat())],
            Must::Answer,
        ),
    ];
    hold(cases);
}

#[test]
fn forbidden_http_2_frames_end_their_stream_or_connection() {
    let get = get();
    let all = END_HEADERS | END_STREAM;
    let h = |flags: u8, payload: &[u8]| frame(HEADERS, flags, 1, payload);
    let large = vec![0; 16_385];
    let text = block(&[("x", "y")]);
    let unfinished = || frame(HEADERS, END_STREAM, 1, &get);
    let whole = |block: &[u8]| vec![h(all, &[&get[..], block].concat())];
    let end = Must::End(&[PROTOCOL]);
    // The h2 crate reports most of these as PROTOCOL_ERROR, which is correct too.
    let size = Must::End(&[FRAME_SIZE, PROTOCOL]);
    let compression = Must::End(&[COMPRESSION, PROTOCOL]);
    let closed = Must::Reset(&[STREAM_CLOSED, PROTOCOL]);
    let cases: Cases = vec![
        ("9113 4.2", "too long a body frame", vec![begun(1), frame(DATA, 1, 1, &large)], size),
        ("9113 4.2", "too long a head", vec![h(all, &large)], size),
        (
            "9113 4.2",
            "too long a continuation",
            vec![unfinished(), frame(CONTINUATION, 4, 1, &large)],
            size,
        ),
        ("9113 4.2", "too long a frame that nobody knows", vec![frame(0xbb, 0, 0, &large)], size),
        ("9113 4.3", "a block that is none", vec![h(all, &[0xff; 40])], compression),
        (
            "9113 4.3",
            "a priority within a head",
            vec![unfinished(), frame(PRIORITY, 0, 1, &dependent(0, 9))],
            end,
        ),
        ("9113 4.3", "another head within a head", vec![unfinished(), asked(3)], end),
        (
            "9113 5.5",
            "an unknown frame within a head",
            vec![unfinished(), frame(0xbb, 0, 1, b"x")],
            end,
        ),
        ("9113 6.10", "a body within a head", vec![unfinished(), frame(DATA, 1, 1, b"x")], end),
        (
            "9113 6.10",
            "another stream's continuation",
            vec![unfinished(), frame(CONTINUATION, END_HEADERS, 3, &text)],
            end,
        ),
        (
            "9113 6.10",
            "a continuation of nothing",
            vec![frame(CONTINUATION, END_HEADERS, 1, &text)],
            end,
        ),
        (
            "9113 6.10",
            "a continuation of no stream",
            vec![unfinished(), frame(CONTINUATION, END_HEADERS, 0, &text)],
            end,
        ),
        (
            "9113 6.10",
            "a continuation of a whole head",
            vec![waiting(1), frame(CONTINUATION, END_HEADERS, 1, &text)],
            end,
        ),
        (
            "9113 6.10",
            "a continuation after the last one",
            vec![
                unfinished(),
                frame(CONTINUATION, END_HEADERS, 1, &text),
                frame(CONTINUATION, END_HEADERS, 1, &text),
            ],
            end,
        ),
        (
            "9113 6.10",
            "a continuation of a body",
            vec![begun(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &text)],
            end,
        ),
        ("9113 5.1", "a body on an idle stream", vec![frame(DATA, 1, 1, b"x")], end),
        ("9113 5.1", "a reset of an idle stream", vec![cancelled(1)], end),
        ("9113 5.1", "a window of an idle stream", vec![window(1, 100)], end),
        ("9113 5.1", "a body after the end", vec![waiting(1), frame(DATA, 1, 1, b"x")], closed),
        ("9113 5.1", "a head after the end", vec![waiting(1), waiting(1)], closed),
        (
            "9113 5.1",
            "a body after its end and the answer",
            vec![asked(1), frame(DATA, 1, 1, b"x")],
            Must::Reset(&[STREAM_CLOSED, PROTOCOL]),
        ),
        ("9113 5.1.1", "a stream of the server's", vec![asked(2)], end),
        ("9113 5.1.1", "a number that goes back", vec![waiting(5), asked(3)], end),
        ("9113 6.1", "a body of no stream", vec![frame(DATA, 1, 0, b"x")], end),
        (
            "9113 6.1",
            "padding longer than its frame",
            vec![begun(1), frame(DATA, PADDED, 1, &[9, 1])],
            end,
        ),
        (
            "9113 6.1",
            "padding as long as its frame",
            vec![begun(1), frame(DATA, PADDED, 1, &[2, 0])],
            end,
        ),
        (
            "9113 6.1",
            "padded, and empty",
            vec![begun(1), frame(DATA, PADDED, 1, &[])],
            Must::End(&[PROTOCOL, FRAME_SIZE]),
        ),
        ("9113 6.2", "a head of no stream", vec![frame(HEADERS, all, 0, &get)], end),
        (
            "9113 6.2",
            "padding longer than the head",
            vec![h(all | PADDED, &[&[0xff][..], &get].concat())],
            end,
        ),
        (
            "9113 6.2",
            "padded, and empty",
            vec![h(all | PADDED, &[])],
            Must::End(&[PROTOCOL, FRAME_SIZE]),
        ),
        (
            "9113 6.2",
            "priority, and nothing",
            vec![h(all | PRIORITY_FIELDS, &[0, 0])],
            Must::End(&[PROTOCOL, FRAME_SIZE]),
        ),
        (
            "7540 5.3.1",
            "a head that depends on itself",
            vec![h(all | PRIORITY_FIELDS, &[dependent(1, 9), get.clone()].concat())],
            Must::Reset(&[PROTOCOL]),
        ),
        (
            "7540 5.3.1",
            "a stream that depends on itself",
            vec![frame(PRIORITY, 0, 1, &dependent(1, 9))],
            Must::Reset(&[PROTOCOL]),
        ),
        ("9113 6.3", "a priority of no stream", vec![frame(PRIORITY, 0, 0, &dependent(0, 9))], end),
        (
            "9113 6.3",
            "a priority of four bytes",
            vec![waiting(1), frame(PRIORITY, 0, 1, &[0; 4])],
            Must::Reset(&[FRAME_SIZE, PROTOCOL]),
        ),
        ("9113 6.4", "a reset of no stream", vec![cancelled(0)], end),
        (
            "9113 6.4",
            "a reset of three bytes",
            vec![waiting(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            size,
        ),
        (
            "9113 6.5",
            "taken settings that hold some",
            vec![frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 9])],
            size,
        ),
        ("9113 6.5", "settings of a stream", vec![frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9])], end),
        ("9113 6.5", "half a setting", vec![frame(SETTINGS, 0, 0, &[0, 3, 0])], size),
        ("9113 6.5.2", "pushes of 2", vec![setting(2, 2)], end),
        (
            "9113 6.5.2",
            "too large a window",
            vec![setting(4, 1 << 31)],
            Must::End(&[FLOW_CONTROL, PROTOCOL]),
        ),
        ("9113 6.5.2", "too small a frame", vec![setting(5, 16_383)], end),
        ("9113 6.5.2", "too large a frame", vec![setting(5, 1 << 24)], end),
        ("9113 6.7", "a ping of a stream", vec![frame(PING, 0, 1, &[0; 8])], end),
        ("9113 6.7", "a ping of six bytes", vec![frame(PING, 0, 0, &[0; 6])], size),
        ("9113 6.8", "a good-bye of a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], end),
        (
            "9113 6.8",
            "a good-bye of four bytes",
            vec![frame(GOAWAY, 0, 0, &[0; 4])],
            Must::End(&[FRAME_SIZE, PROTOCOL]),
        ),
        ("9113 6.9", "a window of nothing", vec![window(0, 0)], end),
        (
            "9113 6.9",
            "a stream's of nothing",
            vec![waiting(1), window(1, 0)],
            Must::Reset(&[PROTOCOL]),
        ),
        ("9113 6.9", "a window of three bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], size),
        (
            "9113 6.9.1",
            "a window beyond all",
            vec![window(0, u32::MAX >> 1)],
            Must::End(&[FLOW_CONTROL]),
        ),
        (
            "9113 6.9.1",
            "a stream's beyond all",
            vec![waiting(1), window(1, u32::MAX >> 1), window(1, u32::MAX >> 1)],
            Must::Reset(&[FLOW_CONTROL]),
        ),
        (
            "9113 6.9.2",
            "a stream's beyond all by a setting",
            vec![waiting(1), window(1, 1 << 30), setting(4, u32::MAX >> 1)],
            Must::End(&[FLOW_CONTROL]),
        ),
        (
            "9113 6.9.1",
            "more than the window",
            [vec![begun_waiting(1)], vec![frame(DATA, 0, 1, &[0; 16_384]); 80]].concat(),
            Must::Reset(&[FLOW_CONTROL]),
        ),
        (
            "9113 5.1.2",
            "more streams than there may be",
            (0..102).rev().map(|n| waiting(203 - 2 * n)).collect(),
            Must::Reset(&[PROTOCOL, REFUSED, CALM]),
        ),
        (
            "9113 8.1",
            "a second head that does not end",
            vec![begun_waiting(1), frame(HEADERS, END_HEADERS, 1, &text)],
            Must::Reset(&[PROTOCOL]),
        ),
        (
            "9113 8.4",
            "a push",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())],
            end,
        ),
        ("7541 2.3.3", "an index that is in no table", whole(&[0xff, 0x00]), compression),
        ("7541 2.3.3", "a name that is in no table", whole(&[0x7f, 0x20, 1, b'x']), compression),
        ("7541 6.1", "the index of nothing", whole(&[0x80]), compression),
        ("7541 4.2", "a table's size at the end", whole(&[0x21]), compression),
        (
            "7541 6.3",
            "a table larger than it may be",
            vec![h(all, &[&[0x3f, 0xe2, 0x1f][..], &get].concat())],
            compression,
        ),
        (
            "7541 5.1",
            "a number without an end",
            whole(&[&[0xff][..], &[0x80; 20]].concat()),
            compression,
        ),
        (
            "7541 5.1",
            "a number beyond all",
            whole(&[&[0xff][..], &[0xff; 12], &[0x7f]].concat()),
            compression,
        ),
        ("7541 5.2", "a text that is cut off", whole(&[0x10, 1, b'x', 20, b'y']), compression),
        (
            "7541 5.2",
            "padding of more than seven bits",
            whole(&[0x10, 1, b'x', 0x83, 0x1f, 0xff, 0xff]),
            compression,
        ),
        ("7541 5.2", "padding with zeros", whole(&[0x10, 1, b'x', 0x81, 0x18]), compression),
        (
            "7541 5.2",
            "the code of an end within",
            whole(&[0x10, 1, b'x', 0x85, 0xff, 0xff, 0xff, 0xff, 0xff]),
            compression,
        ),
    ];
    hold(cases);
}
