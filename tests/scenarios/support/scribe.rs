//! A backend that records every byte it receives, and answers on demand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as received.
#[derive(Clone, Debug)]
pub struct Written {
    /// Request line and fields.
    pub head: String,
    pub body: Vec<u8>,
}

impl Written {
    /// All values of a field.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let named = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().skip(1).filter_map(named).collect()
    }

    pub fn line(&self) -> String {
        self.head.lines().next().unwrap_or_default().to_owned()
    }
}

/// Returns the response to a request, as on the wire.
type Answer = dyn Fn(&Written) -> Vec<u8> + Send + Sync;

pub struct Scribe {
    port: u16,
    all: Arc<Mutex<Vec<Written>>>,
}

impl Scribe {
    /// One that answers 200 with an empty body.
    pub fn start() -> Scribe {
        Scribe::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
    }

    pub fn answering(answer: impl Fn(&Written) -> Vec<u8> + Send + Sync + 'static) -> Scribe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (all, answer) =
            (Arc::<Mutex<Vec<Written>>>::default(), Arc::<Box<Answer>>::new(Box::new(answer)));
        let told = all.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (told.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &all, &**answer));
            }
        });
        Scribe { port, all }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn all(&self) -> Vec<Written> {
        self.all.lock().unwrap().clone()
    }

    pub fn last(&self) -> Written {
        self.all().pop().expect("something has reached the backend")
    }

    /// The request lines.
    pub fn lines(&self) -> Vec<String> {
        self.all().iter().map(Written::line).collect()
    }
}

fn serve(mut stream: TcpStream, all: &Mutex<Vec<Written>>, answer: &Answer) -> Option<()> {
    loop {
        let head = until(&mut stream, b"\r\n\r\n")?;
        let mut written =
            Written { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
        if let Some(length) = written.fields("content-length").first() {
            written.body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut written.body).ok()?;
        } else if !written.fields("transfer-encoding").is_empty() {
            written.body = chunked(&mut stream)?;
        }
        all.lock().unwrap().push(written.clone());
        stream.write_all(&answer(&written)).ok()?;
    }
}

fn until(stream: &mut TcpStream, end: &[u8]) -> Option<Vec<u8>> {
    let (mut read, mut byte) = (Vec::new(), [0; 1]);
    while !read.ends_with(end) {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    Some(read)
}

fn chunked(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = String::from_utf8(until(stream, b"\r\n")?).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
