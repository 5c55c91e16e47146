//! The response buffer for link rewriting: it holds a response until it is complete, because its
//! head must state the new length.
//!
//! It is limited to the size of a listing. A larger response passes unchanged.

use std::task::Context;

use super::client::ClientStream;
use super::{BufferedBytes, Exchange, Failed, link_rewriting};

/// A response, as far as it was received.
pub(super) struct ResponseBuffer {
    /// Its head as received.
    head: Vec<u8>,
    body: Vec<u8>,
    /// The account of the body's bytes.
    room: Option<BufferedBytes>,
}

impl ResponseBuffer {
    pub(super) fn new(head: &[u8], room: Option<BufferedBytes>) -> Self {
        ResponseBuffer { head: head.to_vec(), body: Vec::new(), room }
    }

    /// Appends a piece. Returns whether the body is still within the limit.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        self.body.extend_from_slice(data);
        let has_room = self.room.as_mut().is_none_or(|room| room.add(data.len()));
        has_room && self.body.len() <= link_rewriting::BODY_BYTES_MAX
    }
}

impl<C: ClientStream> Exchange<'_, C> {
    /// The body is too large: sends the buffered part unchanged, and stops buffering.
    pub(super) fn let_go(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let Some(ResponseBuffer { head, body, room }) = self.response.held.take() else {
            return Ok(());
        };
        self.response.sending = room;
        let authority = self.going.links.as_deref().unwrap_or_default();
        let head = link_rewriting::redirect(&head, authority);
        self.tell_again(&head)?;
        self.client.data(cx, &body)
    }

    /// The response is complete: sends it with its links rewritten.
    pub(super) fn send_held(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let Some(ResponseBuffer { head, body, room }) = self.response.held.take() else {
            return Ok(());
        };
        self.response.sending = room;
        let authority = self.going.links.as_deref().unwrap_or_default();
        let text = link_rewriting::rewritten(&body, authority);
        let head = link_rewriting::head(&head, authority, Some(text.len()));
        self.response.sent += text.len().saturating_sub(body.len());
        self.tell_again(&head)?;
        self.client.data(cx, &text)
    }
}
