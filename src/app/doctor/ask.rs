//! A minimal HTTP/1.1 client: one small request to a web server, on its own connection.
//!
//! Keeps the head and a little of the body, and never shows the credentials it sends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// More interim responses than any server sends for one request.
const INTERIM_MAX: usize = 8;
/// The connect timeout.
const CONNECT: Duration = Duration::from_secs(3);
/// Enough for a list of management points.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The server and how to connect to it.
#[derive(Clone)]
pub(super) struct AskTarget {
    pub(super) place: AskPlace,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The value of the Host header.
    pub(super) host: String,
    /// The Authorization value of the backend_auth account, if there is one.
    pub(super) authorization: Option<String>,
}

#[derive(Clone)]
pub(super) enum AskPlace {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// The response.
#[derive(Debug)]
pub(super) struct AskAnswer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum AskFault {
    Connect(io::Error),
    Tls(io::Error),
    NotHttp(String),
}

impl AskAnswer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The clock skew against the server's `Date` header, in seconds.
    pub(super) fn skew(&self, now: Timestamp) -> Option<u64> {
        skew(self.field("date")?, now)
    }
}

/// The seconds between a Date (RFC 9110 §6.6.1) and now.
pub(super) fn skew(date: &str, now: Timestamp) -> Option<u64> {
    let at = rfc2822::parse(date).ok()?.timestamp();
    Some(at.as_second().abs_diff(now.as_second()))
}

/// Sends a request and reads the response.
///
/// # Errors
/// Why there is no response.
pub(super) async fn ask(
    to: &AskTarget,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
) -> Result<AskAnswer, AskFault> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: sitegate-doctor\r\n\
         Connection: close\r\n",
        to.host
    );
    let authorization = to.authorization.as_deref().map(|value| ("Authorization", value));
    for (name, value) in more.iter().copied().chain(authorization) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    match &to.place {
        AskPlace::Unix(path) => {
            let stream = connected(crate::os::connect_local(path)).await?;
            exchange(stream, &head, method).await
        }
        AskPlace::Tcp(host, port) => {
            let stream = connected(TcpStream::connect((host.as_str(), *port))).await?;
            match &to.tls {
                None => exchange(stream, &head, method).await,
                Some((config, name)) => {
                    let tls = TlsConnector::from(config.clone());
                    let stream = tls.connect(name.clone(), stream).await.map_err(AskFault::Tls)?;
                    exchange(stream, &head, method).await
                }
            }
        }
    }
}

/// A host that drops all packets looks like one that does not exist.
async fn connected<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, AskFault> {
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(done) => done.map_err(AskFault::Connect),
        Err(_) => Err(AskFault::Connect(io::ErrorKind::TimedOut.into())),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    head: &str,
    method: &str,
) -> Result<AskAnswer, AskFault> {
    let broken = |error: io::Error| AskFault::NotHttp(error.to_string());
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut bytes = Vec::new();
    let mut answer: Option<(AskAnswer, usize)> = None;
    loop {
        if answer.is_none() {
            answer = parsed(&bytes)?;
        }
        let whole = |(answer, at): &(AskAnswer, usize)| {
            let length = answer.field("content-length").and_then(|value| value.parse().ok());
            let none = method == "HEAD" || matches!(answer.status, 204 | 304);
            none || length.is_some_and(|length: usize| bytes.len().saturating_sub(*at) >= length)
        };
        if answer.as_ref().is_some_and(whole) || bytes.len() >= ANSWER_BYTES_MAX {
            break;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => break,
            Ok(_) => {}
            // Some servers close after `Connection: close` without a TLS close_notify.
            Err(_) if answer.is_some() => break,
            Err(error) => return Err(broken(error)),
        }
    }
    let (mut answer, at) =
        answer.ok_or_else(|| AskFault::NotHttp("the response is not HTTP".to_owned()))?;
    let body = bytes.get(at..).unwrap_or_default();
    // A list in UTF-16 has the same letters with zero bytes between them.
    let text: Vec<u8> = body.iter().copied().filter(|byte| *byte != 0).collect();
    answer.body = String::from_utf8_lossy(&text).into_owned();
    Ok(answer)
}

/// The head and the offset of the body, once the head is complete. Interim responses are skipped.
fn parsed(bytes: &[u8]) -> Result<Option<(AskAnswer, usize)>, AskFault> {
    let mut begins = 0;
    for _ in 0..=INTERIM_MAX {
        let Some((answer, length)) = one(bytes.get(begins..).unwrap_or_default())? else {
            return Ok(None);
        };
        begins += length;
        if !(100..200).contains(&answer.status) {
            return Ok(Some((answer, begins)));
        }
    }
    Err(AskFault::NotHttp("it sends interim responses without end".to_owned()))
}

/// The head of one response, and its length.
fn one(bytes: &[u8]) -> Result<Option<(AskAnswer, usize)>, AskFault> {
    let begin = bytes.get(..5).unwrap_or(bytes);
    if !b"HTTP/".starts_with(begin) {
        return Err(AskFault::NotHttp("its response is not HTTP".to_owned()));
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status =
        status.ok_or_else(|| AskFault::NotHttp("its response has no status".to_owned()))?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let fields = lines.filter_map(field).collect();
    Ok(Some((AskAnswer { status, fields, body: String::new() }, end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_fields_after_interim_ones() {
        let whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nDate: x\r\n\r\nbody";
        let (answer, at) = parsed(whole).unwrap().unwrap();
        assert_eq!(
            (answer.status, answer.field("DATE"), &whole[at..]),
            (404, Some("x"), &b"body"[..])
        );
        assert!(parsed(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
        assert!(matches!(parsed(b"SSH-2.0"), Err(AskFault::NotHttp(_))));
        let endless = b"HTTP/ 100\r\n\r\n".repeat(20_000);
        assert!(matches!(parsed(&endless), Err(AskFault::NotHttp(_))));
    }

    #[test]
    fn a_date_is_compared_with_the_time_here() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(skew("Fri, 02 Jan 2026 03:04:05 GMT", now), Some(0));
        assert_eq!(skew("Fri, 02 Jan 2026 03:00:05 GMT", now), Some(240));
        assert_eq!(skew("never", now), None);
    }
}
