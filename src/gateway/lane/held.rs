//! An answer whose links are rewritten: held until it is whole, because its head says how long it is.
//!
//! Holds no more than a listing has; what is larger passes as it came.

use super::exchange::Exchange;
use super::relay::chunk;
use super::response::Rest;
use crate::gateway::links;

/// The answer, as far as it is there.
pub(super) struct Held {
    /// Its head as the client would get it.
    head: Vec<u8>,
    body: Vec<u8>,
    /// Whether the client would get its body in chunks.
    chunked: bool,
}

impl Exchange<'_> {
    /// An answer's head was written to `back` from `begin` on: hold it if there may be links in what
    /// follows. Links in the head itself are rewritten at once.
    pub(super) fn hold(&mut self, begin: usize, status: u16, rest: &Rest) {
        let Some(authority) = &self.going.links else { return };
        let head = self.back.split_off(begin.min(self.back.len()));
        let looked_into = links::may_be_in(status, links::fields(&head));
        if looked_into && !self.going.bodiless {
            let chunked = !matches!(rest, Rest::Length(_));
            self.held = Some(Held { head, body: Vec::new(), chunked });
            return;
        }
        // Of what a HEAD is for, nobody knows how long it would be.
        match looked_into {
            true => self.back.extend_from_slice(&links::head(&head, authority, None)),
            false => self.back.extend_from_slice(&links::redirect(&head, authority)),
        }
    }

    /// Bytes of the answer's body, to be sent or to be held.
    pub(super) fn give(&mut self, data: &[u8], in_chunks: bool) {
        match &mut self.held {
            Some(held) => {
                held.body.extend_from_slice(data);
                if held.body.len() > links::BODY_BYTES_MAX {
                    self.let_go();
                }
            }
            None if in_chunks => chunk(&mut self.back, data),
            None => self.back.extend_from_slice(data),
        }
    }

    /// Too large: what is held goes on as it came, and so does the rest.
    fn let_go(&mut self) {
        let Some(Held { head, body, chunked }) = self.held.take() else { return };
        let authority = self.going.links.as_deref().unwrap_or_default();
        self.back.extend_from_slice(&links::redirect(&head, authority));
        match chunked {
            true => chunk(&mut self.back, &body),
            false => self.back.extend_from_slice(&body),
        }
    }

    /// The answer's body is whole.
    pub(super) fn whole(&mut self, in_chunks: bool) {
        let Some((Held { head, body, .. }, authority)) =
            self.held.take().zip(self.going.links.as_ref())
        else {
            if in_chunks {
                self.back.extend_from_slice(b"0\r\n\r\n");
            }
            return;
        };
        let text = links::rewritten(&body, authority);
        self.sent += text.len().saturating_sub(body.len());
        self.back.extend_from_slice(&links::head(&head, authority, Some(text.len())));
        self.back.extend_from_slice(&text);
    }
}
