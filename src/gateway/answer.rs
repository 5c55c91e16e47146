//! The answer to a refused request, put on the wire, and what becomes of the rest of it.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, Outcome, reply};
use crate::clock::http_date;
use crate::denial::Denial;

/// How much of a refused HTTP/2 request's body is read and thrown away, and for how long: clients
/// that are still sending take a reset for a failure of the connection, answer or not.
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

impl Gateway {
    /// Answer a refused request.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        denial: Denial,
    ) -> Outcome<()> {
        ctx.denial = Some(denial);
        let reply = reply::refusal(denial, ctx);
        let mut head = ResponseHeader::build(reply.status, Some(reply.fields.len() + 3))?;
        head.set_reason_phrase(Some(&reply.reason))?;
        for (name, value) in reply.fields {
            head.insert_header(name, value)?;
        }
        head.insert_header(header::CONTENT_LENGTH, reply.body.len())?;
        head.insert_header(header::DATE, http_date(self.clock.now()))?;
        let ends = !session.as_downstream_mut().is_body_done() || reply::ends_connection(denial);
        if ends {
            // What is left of the body must never be read as the next request.
            session.set_keepalive(None);
        }
        let bodiless = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(head), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(Bytes::from(reply.body)), true).await?;
        }
        Ok(())
    }
}

/// Throw away what an HTTP/2 client goes on sending, for a while.
pub(super) async fn drain(session: &mut Session) {
    if session.as_downstream().is_http2() {
        let _ = tokio::time::timeout(DRAIN_TIME, read_on(session)).await;
    }
}

async fn read_on(session: &mut Session) {
    let mut read = 0;
    while read < DRAIN_BYTES {
        match session.as_downstream_mut().read_request_body().await {
            Ok(Some(bytes)) => read += bytes.len(),
            _ => return,
        }
    }
}
