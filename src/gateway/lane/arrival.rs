//! A message, judged before the backend is asked: by its first part, or by all of it. What was read
//! stays in the buffer and is sent first.

use std::io;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;

use crate::front::Conn;
use crate::gateway::ctx::RequestCtx;
use crate::gateway::framing::parse;
use crate::gateway::guard::{self, Guard, Inspection, Verdict};

/// What is asked of the system at a time.
const READ_BYTES: usize = 8 * 1024;

/// Judge a message that may go on otherwise. `head` is its head, `buf` what there is of its body,
/// which has `length` bytes.
///
/// # Errors
/// Outside, that the client went away; inside, why the request may not go on.
pub(super) async fn judge(
    conn: &mut Conn,
    buf: &mut BytesMut,
    (head, length): (&[u8], u64),
    ctx: &RequestCtx,
    now: Timestamp,
) -> io::Result<Verdict> {
    let Ok(head) = parse(head) else { return Ok(Ok(None)) };
    let Some(guard) = Guard::of(ctx, head.method, now) else { return Ok(Ok(None)) };
    let Some(content_type) = guard::content_type(head.fields.iter().copied()) else {
        return Ok(Err(guard::untyped()));
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    conn.expect_body(length.saturating_sub(buf.len()) as u64);
    let inspection = match Inspection::new(guard, content_type) {
        Ok(inspection) => inspection,
        Err(refused) => return Ok(Err(refused)),
    };
    let verdict = read(conn, buf, length, inspection).await?;
    if let (Some(in_flight), true) = (&ctx.in_flight, buf.len() >= length) {
        in_flight.body_done();
    }
    Ok(verdict)
}

async fn read(
    conn: &mut Conn,
    buf: &mut BytesMut,
    length: usize,
    mut inspection: Inspection<'_>,
) -> io::Result<Verdict> {
    loop {
        let body = buf.get(..length.min(buf.len())).unwrap_or_default();
        if let Some(verdict) = inspection.look(body, body.len() == length) {
            return Ok(verdict);
        }
        buf.reserve(READ_BYTES);
        if conn.read_buf(buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
