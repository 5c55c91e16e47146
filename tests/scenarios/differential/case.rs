//! The cases: requests and responses.

use super::client::{End, WAYS, Way};
use crate::messages::{LOCATION, SITE, asking};

/// A deterministic random generator with a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize].clone()
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    None,
    Length(usize),
    /// Chunked, of unannounced length.
    Chunked(usize),
    /// Of known length, sent after 100 Continue.
    Expected(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    /// Chunks of this many bytes, with an extension and a trailer.
    Chunked(usize),
    UntilClose,
}

/// The fault of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TwoLengths,
    LengthAndCoding,
    OtherCoding,
    NoStatus,
    BareLineFeed,
    Folded,
    Space,
    Switch,
    NineInterims,
    /// The end of the body is missing.
    Cut,
    BadChunk,
    /// No bytes at all.
    Silence,
}

impl Fault {
    /// Checks whether it appears after the response has begun.
    fn is_in_body(self) -> bool {
        matches!(self, Fault::Cut | Fault::BadChunk)
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub interims: Vec<u16>,
    pub status: u16,
    pub framing: Framing,
    pub body: usize,
    pub fault: Option<Fault>,
    /// HTTP/1.0.
    pub old: bool,
    /// Whether the connection closes after it, and says so.
    pub close: bool,
    /// Sent before the request's body is read; the body is still read.
    pub early: bool,
    /// The number of pieces it is sent in.
    pub pieces: usize,
    pub date: bool,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub method: &'static str,
    pub upload: Upload,
    pub range: bool,
    /// Whether an upgrade is requested, and whether the backend accepts it.
    pub switch: Option<bool>,
    pub answer: Answer,
}

/// Bytes without repeated blocks.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

impl Case {
    /// Checks whether its response has no body despite its head.
    pub fn is_bodiless(&self) -> bool {
        self.method == "HEAD" || matches!(self.answer.status, 204 | 304)
    }

    /// Checks whether a client can send it. Foreign clients wait for no `100 Continue`, or not
    /// always.
    pub fn goes_by(&self, way: Way) -> bool {
        let expects = matches!(self.upload, Upload::Expected(_));
        let chunked = matches!(self.upload, Upload::Chunked(_));
        match self.switch {
            // No route accepts it over plain HTTP.
            Some(_) => way == Way::Tls11,
            // curl fails if a stream is reset after its response (RFC 9113 §8.1).
            None if way == Way::Curl2 && self.answer.early => false,
            None => !(way.is_old() && chunked || way.is_foreign() && expects),
        }
    }

    /// Checks whether the connection switches protocols after the response head.
    pub fn is_switched(&self) -> bool {
        self.switch == Some(true)
    }

    /// Checks whether a retry is allowed: no byte came back, and the request changes nothing.
    pub fn may_be_repeated(&self) -> bool {
        self.upload == Upload::None && self.answer.fault == Some(Fault::Silence)
    }

    /// Returns the request's body: for `CCM_POST`, a message that needs no token.
    pub fn body(&self) -> Vec<u8> {
        match self.upload {
            Upload::None => Vec::new(),
            _ if self.is_message() => asking(LOCATION, SITE),
            Upload::Length(n) | Upload::Chunked(n) | Upload::Expected(n) => pattern(n),
        }
    }

    /// Checks whether it is a client message.
    pub fn is_message(&self) -> bool {
        self.method == "CCM_POST"
    }

    /// Checks the response that a client received.
    pub fn judge(
        &self,
        status: u16,
        body: &[u8],
        end: End,
        code: Option<&str>,
    ) -> Result<(), String> {
        let (whole, cut) = (end == End::Whole, end == End::Cut);
        let wanted = |right: bool, what: &str| right.then_some(()).ok_or_else(|| what.to_owned());
        match self.answer.fault {
            Some(fault) if fault.is_in_body() => {
                wanted(status == self.answer.status && cut, "begun and cut off")
            }
            Some(fault) => {
                let reason = match fault {
                    _ if self.method == "HEAD" => "unsaid",
                    Fault::Silence => "upstream.closed",
                    _ => "upstream.response",
                };
                wanted(status == 502 && whole && code == Some(reason), "502 with its reason")
            }
            None if self.is_switched() => {
                wanted(status == 101 && whole, "switched")?;
                wanted(body == pattern(self.answer.body), "what was sent came back")
            }
            None => {
                let length = if self.is_bodiless() { 0 } else { self.answer.body };
                wanted(status == self.answer.status && whole, "answered")?;
                wanted(body == pattern(length), "the body as it was sent")
            }
        }
    }

    /// Returns the bytes of the response, interim responses first.
    pub fn answer_bytes(&self) -> Vec<u8> {
        let answer = &self.answer;
        let mut out = Vec::new();
        let mut interims = answer.interims.clone();
        match answer.fault {
            Some(Fault::Silence) => return out,
            Some(Fault::NineInterims) => interims = vec![103; 9],
            Some(Fault::Switch) => {
                out.extend(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
                return out;
            }
            _ => {}
        }
        if self.is_switched() {
            out.extend(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            );
            return out;
        }
        for status in interims {
            out.extend(format!("HTTP/1.1 {status} Interim\r\nLink: </x>\r\n\r\n").into_bytes());
        }
        let version = if answer.old { "HTTP/1.0" } else { "HTTP/1.1" };
        let status = match answer.fault {
            Some(Fault::NoStatus) => "9x9".to_owned(),
            _ => answer.status.to_string(),
        };
        let mut head = format!(
            "{version} {status} Some Reason\r\nServer: backend\r\nX-Odd_Name: caf\u{e9}\r\n"
        );
        let mut field = |line: &str| {
            head.push_str(line);
            head.push_str("\r\n");
        };
        if answer.date {
            field("Date: Sun, 06 Nov 1994 08:49:37 GMT");
        }
        if answer.close {
            field("Connection: close, X-Hop");
            field("X-Hop: gone");
        }
        field("Set-Cookie: a=b");
        field("Set-Cookie: c=d");
        match answer.fault {
            Some(Fault::Folded) => field("X: y\r\n z"),
            Some(Fault::Space) => field("X : y"),
            Some(Fault::BareLineFeed) => field("X: y\nZ: w"),
            Some(Fault::TwoLengths) => field(&format!("Content-Length: {}", answer.body)),
            Some(Fault::LengthAndCoding) => {
                field("Transfer-Encoding: chunked\r\nContent-Length: 5")
            }
            Some(Fault::OtherCoding) => field("Transfer-Encoding: gzip"),
            _ => {}
        }
        match answer.framing {
            Framing::Length => field(&format!("Content-Length: {}", answer.body)),
            Framing::Chunked(_) => field("Transfer-Encoding: chunked"),
            Framing::UntilClose => {}
        }
        out.extend(head.into_bytes());
        out.extend(b"\r\n");
        if self.is_bodiless() {
            return out;
        }
        let body = pattern(answer.body);
        let cut = answer.fault == Some(Fault::Cut);
        match answer.framing {
            Framing::Chunked(step) => {
                for (n, piece) in body.chunks(step).enumerate() {
                    let extension = if n == 0 { ";name=value" } else { "" };
                    out.extend(format!("{:X}{extension}\r\n", piece.len()).into_bytes());
                    out.extend(piece);
                    out.extend(b"\r\n");
                }
                match answer.fault {
                    Some(Fault::BadChunk) => out.extend(b"+0\r\n\r\n"),
                    Some(Fault::Cut) => {}
                    _ => out.extend(b"0\r\nX-Trailer: y\r\n\r\n"),
                }
            }
            _ if cut => out.extend(&body[..body.len() - 1]),
            _ => out.extend(body),
        }
        out
    }

    /// Checks whether the backend closes its connection after the response.
    pub fn closes(&self) -> bool {
        let answer = &self.answer;
        answer.close
            || answer.old
            || answer.fault.is_some()
            || (answer.framing == Framing::UntilClose && !self.is_bodiless())
    }
}

/// Generates enough cases for this many exchanges. Each case runs over several ways.
pub fn generate(seed: u64, cells: usize, carriers: usize) -> Vec<Case> {
    let mut dice = Dice(seed);
    let (mut cases, mut made) = (Vec::new(), 0);
    while made < cells {
        let case = one(&mut dice);
        made += carriers * WAYS.iter().filter(|way| case.goes_by(**way)).count();
        cases.push(case);
    }
    cases
}

fn one(dice: &mut Dice) -> Case {
    let method =
        dice.one(&["GET", "GET", "HEAD", "PUT", "POST", "PROPFIND", "BITS_POST", "CCM_POST"]);
    let size = dice.one(&[1, 5, 1_000, 9_000, 40_000, 100_000]);
    let upload = match method {
        "GET" | "HEAD" => Upload::None,
        "PROPFIND" if dice.once_in(2) => Upload::None,
        _ => match dice.next() % 4 {
            0 => Upload::Chunked(size),
            1 => Upload::Expected(size),
            _ => Upload::Length(size),
        },
    };
    let status = dice.one(&[
        200, 200, 200, 201, 202, 204, 206, 207, 301, 304, 400, 401, 403, 404, 409, 416, 500, 503,
    ]);
    let old = dice.once_in(8);
    let framing = match dice.next() % 4 {
        0 if !old => Framing::Chunked(dice.one(&[1, 7, 4_096, 100_000])),
        1 => Framing::UntilClose,
        _ => Framing::Length,
    };
    let body = dice.one(&[0, 1, 100, 5_000, 40_000, 200_000]);
    // One byte per chunk is slow to write.
    let body = if framing == Framing::Chunked(1) { body.min(5_000) } else { body };
    let early = upload != Upload::None && dice.once_in(4);
    let mut answer = Answer {
        interims: Vec::new(),
        status,
        framing,
        body,
        fault: None,
        old,
        close: dice.once_in(6),
        early,
        pieces: if dice.once_in(5) { dice.one(&[2, 5]) } else { 1 },
        date: !dice.once_in(4),
    };
    if !old && dice.once_in(4) {
        answer.interims = dice.one(&[vec![103], vec![102, 103], vec![103, 103, 103]]);
    }
    if dice.once_in(6) {
        answer.fault = fault(dice, &answer, method);
    }
    let switch = method == "GET" && answer.fault.is_none() && dice.once_in(3);
    if switch {
        (answer.interims, answer.date) = (Vec::new(), true);
    }
    let switch = switch.then(|| dice.once_in(2));
    Case { method, upload, range: method == "GET" && dice.once_in(4), switch, answer }
}

/// Returns a fault that this response can have.
fn fault(dice: &mut Dice, answer: &Answer, method: &str) -> Option<Fault> {
    let bodiless = method == "HEAD" || matches!(answer.status, 204 | 304);
    let fault = dice.one(&[
        Fault::TwoLengths,
        Fault::LengthAndCoding,
        Fault::OtherCoding,
        Fault::NoStatus,
        Fault::BareLineFeed,
        Fault::Folded,
        Fault::Space,
        Fault::Switch,
        Fault::NineInterims,
        Fault::Cut,
        Fault::Cut,
        Fault::BadChunk,
        Fault::Silence,
    ]);
    let fits = match fault {
        Fault::Cut => !bodiless && answer.body > 0 && answer.framing != Framing::UntilClose,
        Fault::BadChunk => !bodiless && matches!(answer.framing, Framing::Chunked(_)),
        Fault::TwoLengths => answer.framing == Framing::Length,
        // An interim response has been sent already.
        Fault::Silence => answer.interims.is_empty(),
        _ => true,
    };
    fits.then_some(fault)
}
