//! The first part of a message, read before the backend is asked. What was read stays in the buffer
//! and is sent first.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::front::Conn;
use crate::gateway::ctx::RequestCtx;
use crate::gateway::decide::Refused;
use crate::gateway::framing::parse;
use crate::gateway::guard::{self, FIRST_PART_BYTES_MAX, Guard};
use crate::message::{Envelope, Fault, FirstPart, envelope};

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
) -> io::Result<Result<(), Refused>> {
    let Ok(head) = parse(head) else { return Ok(Ok(())) };
    let Some(guard) = Guard::of(ctx, head.method) else { return Ok(Ok(())) };
    let Some(content_type) = guard::content_type(head.fields.iter().copied()) else {
        return Ok(Err(guard::untyped()));
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    conn.expect_body(length.saturating_sub(buf.len()) as u64);
    let read = read(conn, buf, length, content_type).await?;
    if let (Some(in_flight), true) = (&ctx.in_flight, buf.len() >= length) {
        in_flight.body_done();
    }
    Ok(guard.judge(read))
}

async fn read(
    conn: &mut Conn,
    buf: &mut BytesMut,
    length: usize,
    content_type: &[u8],
) -> io::Result<Result<Envelope, Fault>> {
    let mut part = match FirstPart::new(content_type) {
        Ok(part) => part,
        Err(fault) => return Ok(Err(fault)),
    };
    loop {
        let body = buf.get(..length.min(buf.len())).unwrap_or_default();
        match part.end(body) {
            Err(fault) => return Ok(Err(fault)),
            Ok(Some(end)) => {
                return Ok(envelope(content_type, body.get(..end).unwrap_or_default()));
            }
            // Whatever is missing at its end is for the envelope to find.
            Ok(None) if body.len() == length => return Ok(envelope(content_type, body)),
            Ok(None) if body.len() >= FIRST_PART_BYTES_MAX => return Ok(Err(Fault::Size)),
            Ok(None) => {}
        }
        buf.reserve(READ_BYTES);
        if conn.read_buf(buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
