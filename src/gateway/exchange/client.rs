//! The client side of an exchange: a source for the request body and a sink for the response. Each
//! session type implements it for its protocol.

use std::task::{Context, Poll};

use super::Failed;

/// The head of a response, with the fields for the client.
pub(in crate::gateway) struct ResponseHead<'a> {
    /// From 100 to 599.
    pub(in crate::gateway) status: u16,
    /// The reason phrase. Not every protocol has one.
    pub(in crate::gateway) reason: &'a [u8],
    /// No hop-by-hop fields. Content-Length is present if the length of the body is known.
    pub(in crate::gateway) fields: Vec<(&'a str, &'a [u8])>,
}

/// The part that follows a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Follows {
    /// Nothing.
    Nothing,
    /// This many bytes.
    Length(u64),
    /// A body of unknown length.
    Body,
    /// No body, where a GET would get one of unknown length.
    NoBody,
    /// Bytes of the protocol that both sides have upgraded to.
    AnotherProtocol,
}

/// The client's side of one exchange.
///
/// It accepts all data at once, and sends it as fast as the client reads. Callers respect
/// backpressure: they call [`ClientStream::poll_sent`] and [`ClientStream::poll_room`] first.
pub(in crate::gateway) trait ClientStream: Send {
    /// Passes the next piece of the request's body to `take`: about `most` bytes, and perhaps none.
    /// Returns `false` once the body has ended.
    ///
    /// # Errors
    /// If the client is gone, is too slow, or sends a malformed body.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        take: &mut dyn FnMut(&mut Context<'_>, &[u8]),
    ) -> Poll<Result<bool, Failed>>;

    /// Checks whether the client is gone while the exchange waits for the backend. `answered` says
    /// whether the response has begun.
    ///
    /// # Errors
    /// If the client is gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>, answered: bool) -> Result<(), Failed>;

    /// Returns the read size for a response until its head is complete.
    fn first_read(&self) -> usize;

    /// Sends an interim response (RFC 9110 §15.2), if the protocol has them.
    fn interim(&mut self, answer: &ResponseHead<'_>);

    /// Sends the head of the response. `ends` says that the connection closes after it, if the
    /// protocol has one request per connection at a time.
    ///
    /// # Errors
    /// If the client is gone.
    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        follows: Follows,
        ends: bool,
    ) -> Result<(), Failed>;

    /// Sends a piece of the response body.
    ///
    /// # Errors
    /// If the client is gone.
    fn data(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed>;

    /// Ends the response.
    ///
    /// # Errors
    /// If the client is gone.
    fn end(&mut self) -> Result<(), Failed>;

    /// Ready once all data is on its way.
    ///
    /// # Errors
    /// If the client is gone, or reads nothing for too long.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>>;

    /// Ready with the number of body bytes that the client can take, at least one.
    ///
    /// # Errors
    /// If the client is gone, or reads nothing for too long.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Failed>>;

    /// Like [`ClientStream::poll_sent`], but flushes down to the operating system. No data follows for a
    /// while.
    ///
    /// # Errors
    /// If the client is gone, or reads nothing for too long.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>>;
}
