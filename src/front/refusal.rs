//! What becomes known of requests that were refused before they were any: the client is answered where
//! that can be, and whoever counts and logs is told.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tokio::io::AsyncWrite;

use super::conn::Conn;
use super::state::{ConnInfo, Cut, Phase};
use crate::denial::Denial;

/// Told of requests that were refused before their head was complete, and of more for the log.
pub(super) type OnRefusal = Arc<dyn Fn(&ConnInfo, Denial, Option<&str>) + Send + Sync>;

impl Conn {
    /// Answer a head that will never be complete, and end the connection.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, cut: Cut, denial: Denial) -> io::Error {
        let answer = format!(
            "HTTP/1.1 {} {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            denial.status(),
            denial.reason_phrase()
        );
        // At best one attempt: nobody waits for a client that is being cut off.
        let _ = Pin::new(&mut self.transport).poll_write(cx, answer.as_bytes());
        let _ = Pin::new(&mut self.transport).poll_flush(cx);
        self.lingering.wanted = true;
        self.report(denial);
        self.cut(cut)
    }

    fn report(&mut self, denial: Denial) {
        self.info.state.set_phase(Phase::Idle);
        self.seen = Phase::Idle;
        (self.on_refusal)(&self.info, denial, None);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // An answer while a head was being read, and no request came of it: the parser refused it.
        if self.answered_head && self.info.state.phase() == Phase::Head {
            self.report(Denial::FramingHead);
        }
        let begun = self.info.state.requests();
        if let Some(refused) = self.frames.as_ref().and_then(|frames| frames.refused(begun)) {
            (self.on_refusal)(&self.info, Denial::FramingHead, Some(&refused));
        }
    }
}
