//! Requests of HTTP/2 that say they have no body and do not end: the backend would take them for
//! whole before it is known whether anything comes.

use http::header;
use pingora_core::Error;
use pingora_proxy::Session;

use super::Outcome;
use super::ctx::RequestCtx;
use crate::denial::Denial;

/// Wait until such a request has ended; all others have nothing to wait for.
///
/// # Errors
/// Outside, that the client took it back; inside, why it may not go on: it has a body all the same,
/// or does not end in time.
pub(super) async fn judge(session: &mut Session, ctx: &RequestCtx) -> Outcome<Result<(), Denial>> {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let hollow = length.is_some_and(|length| length.as_bytes() == b"0");
    let Some(policy) = ctx.policy.as_ref().filter(|_| hollow) else {
        return Ok(Ok(()));
    };
    if !session.as_downstream().is_http2() {
        return Ok(Ok(()));
    }
    match tokio::time::timeout(policy.body_pace.grace, ends(session)).await {
        Ok(ended) => ended,
        Err(_) => Ok(Err(Denial::LimitRate)),
    }
}

async fn ends(session: &mut Session) -> Outcome<Result<(), Denial>> {
    loop {
        match session.as_downstream_mut().read_request_body().await {
            Ok(None) => return Ok(Ok(())),
            Ok(Some(bytes)) if bytes.is_empty() => {}
            Err(error) if is_clients_own(&error) => return Err(error.into_down()),
            // Where it has a body its stream was reset already: this is for the log.
            Ok(Some(_)) | Err(_) => return Ok(Err(Denial::FramingLength)),
        }
    }
}

/// Whether it was the client who ended the stream or the connection.
fn is_clients_own(error: &Error) -> bool {
    let h2 = error.root_cause().downcast_ref::<h2::Error>();
    h2.is_some_and(|h2| h2.is_remote() || h2.is_io())
}
