//! HTTP/1.1 and HTTP/1.0 (RFC 9112).

mod client;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::{ClientsBackend, Over};
use crate::denial::Denial;
use crate::front::{Conn, Cut};
use crate::gateway::Gateway;
use crate::gateway::judge::framing::{HeadEnd, parse};
use crate::gateway::record::LoggedRequest;
use crate::gateway::record::ctx::RequestCtx;
use client::Http1;

/// Bytes per read while a head arrives.
const HEAD_READ: usize = 2048;

/// Serves a connection to its end.
pub(in crate::gateway) async fn serve(
    gateway: &Gateway,
    mut conn: Conn,
    shutdown: &mut watch::Receiver<bool>,
) {
    let mut buf = BytesMut::new();
    let mut own = None;
    loop {
        let goes_on = match head(&mut conn, &mut buf, shutdown).await {
            Some(Ok(end)) => {
                let raw = buf.split_to(end);
                let ends = *shutdown.borrow();
                request(gateway, &mut conn, &mut buf, &raw, ends, &mut own).await
            }
            Some(Err(denial)) => malformed(gateway, &mut conn, &mut buf, denial).await,
            None => Some(false),
        };
        match goes_on {
            Some(true) if buf.is_empty() => buf = BytesMut::new(),
            Some(true) => conn.head_began(),
            Some(false) => {
                // An error means that the client is already gone.
                let _ = conn.shutdown().await;
                return;
            }
            None => return,
        }
    }
}

/// Serves one request. Returns whether another may follow; `None` if the connection must be cut, so
/// that the client sees that its response is incomplete.
async fn request(
    gateway: &Gateway,
    conn: &mut Conn,
    buf: &mut BytesMut,
    raw: &[u8],
    ends: bool,
    own: &mut ClientsBackend,
) -> Option<bool> {
    let clear = conn.info().clear.is_some();
    let head = match parse(raw) {
        Ok(head) => head.in_origin_form(clear),
        Err(denial) => return malformed(gateway, conn, buf, denial).await,
    };
    let info = conn.info().clone();
    let mut session = Http1::new(conn, buf, &head);
    session.close |= ends;
    match gateway.request(&mut session, &info, &head, own).await {
        Over::Answered => Some(!session.close),
        Over::CutOff => None,
    }
}

/// Answers a malformed request head.
async fn malformed(
    gateway: &Gateway,
    conn: &mut Conn,
    buf: &mut BytesMut,
    denial: Denial,
) -> Option<bool> {
    let info = conn.info().clone();
    let mut ctx = RequestCtx::new();
    ctx.site = gateway.policy.load().site_of(&info, None);
    ctx.head.plain_http = info.clear.is_some();
    ctx.exchange.in_flight = Some(info.state.begin(true));
    let mut session = Http1::without_body(conn, buf);
    let told = gateway.tell(&mut session, &mut ctx, denial, false, true).await;
    gateway.record(&ctx, &info, LoggedRequest::unread(), told);
    Some(false)
}

/// Reads until a request head is complete, and returns its length. `None` if the connection is
/// over.
async fn head(
    conn: &mut Conn,
    buf: &mut BytesMut,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<Result<usize, Denial>> {
    let mut end = HeadEnd::default();
    let mut begun = false;
    loop {
        if !begun {
            // An empty line before a request line is ignored (RFC 9112 §2.2).
            while buf.starts_with(b"\r\n") {
                buf.advance(2);
            }
            begun = buf.len() > 1 || buf.first().is_some_and(|b| *b != b'\r');
        }
        if begun {
            match end.find(buf) {
                Ok(None) => {}
                Ok(Some(end)) => return Some(Ok(end)),
                Err(denial) => return Some(Err(denial)),
            }
        }
        buf.reserve(HEAD_READ);
        let read = tokio::select! {
            biased;
            read = conn.read_buf(buf) => read,
            _ = shutdown.changed(), if buf.is_empty() => return None,
        };
        match (read, conn.info().state.cut()) {
            (Ok(1..), _) => {}
            (Err(_), Cut::HeaderTime) => return Some(Err(Denial::LimitTime)),
            (Err(_), Cut::HeaderBytes) => return Some(Err(Denial::LimitHead)),
            _ => return None,
        }
    }
}
