//! HTTP/2 requests that the parser refused before their head was complete: reports them once for
//! metrics and logs, when their connection closes.

use std::sync::Arc;

use super::conn::Conn;
use super::state::ConnInfo;

/// Receives a connection on which requests were refused unread, and a summary of the errors.
pub(super) type OnRefusal = Arc<dyn Fn(&ConnInfo, &str) + Send + Sync>;

impl Drop for Conn {
    fn drop(&mut self) {
        let begun = self.info.state.requests();
        if let Some(refused) = self.frames.as_ref().and_then(|frames| frames.refused(begun)) {
            (self.on_refusal)(&self.info, &refused);
        }
    }
}
