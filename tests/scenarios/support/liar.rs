//! A backend that answers with whatever bytes it is told to, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A piece of an answer.
#[derive(Clone)]
pub enum Part {
    Bytes(Vec<u8>),
    /// A moment without any.
    Pause(Duration),
    /// These, until nobody takes them any more.
    Endless(&'static str),
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for the next request.
    Keep,
    Close,
    /// It ends with a reset (RST).
    Reset,
    /// Nothing more comes, and it stays open.
    Hang,
}

/// What a request is answered with, given the request as it came, and how many were before it on its
/// connection.
type Answer = dyn Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync;

pub struct Liar {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    pub fn start(
        answer: impl Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync + 'static,
    ) -> Liar {
        Liar::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub fn on(
        listener: TcpListener,
        answer: impl Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync + 'static,
    ) -> Liar {
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Liar { port, asked }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests that came, their heads and as much of the bodies as came.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, answer: &Answer) -> Option<()> {
    for n in 0.. {
        let request = request(&mut stream)?;
        log.lock().unwrap().push(request.clone());
        let (parts, then) = answer(&request, n);
        for part in parts {
            match part {
                Part::Bytes(bytes) => stream.write_all(&bytes).ok()?,
                Part::Pause(time) => std::thread::sleep(time),
                Part::Endless(text) => {
                    let many = text.repeat(1024);
                    while stream.write_all(many.as_bytes()).is_ok() {}
                }
            }
        }
        match then {
            Then::Keep => {}
            Then::Close => return None,
            Then::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return None;
            }
            Then::Hang => while stream.read(&mut [0; 1024]).ok()? > 0 {},
        }
    }
    None
}

/// The next request: its head, and its body by its length or its chunks.
fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut all, mut byte) = (Vec::new(), [0; 1]);
    let mut until = |all: &mut Vec<u8>, end: &[u8]| {
        while !all.ends_with(end) {
            stream.read_exact(&mut byte).ok()?;
            all.push(byte[0]);
        }
        Some(())
    };
    until(&mut all, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        until(&mut all, b"\r\n0\r\n\r\n")?;
    }
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    all.extend(body);
    Some(String::from_utf8_lossy(&all).into_owned())
}
