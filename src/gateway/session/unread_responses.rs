//! The response bytes that an HTTP/2 connection has buffered for its client, over all its streams.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

/// With so many bytes buffered, no stream of the connection reads more from its backend.
const UNREAD_MAX: usize = 512 * 1024;
/// Streams that wait go on below this. Lower than the maximum, so that each wake-up is worth it.
const UNREAD_LOW: usize = UNREAD_MAX / 2;

/// Counts the response bytes that h2 has, until it has written or dropped them.
#[derive(Default)]
pub(super) struct UnreadResponses {
    bytes: AtomicUsize,
    /// The bytes that h2 does not have yet, because the windows of their streams are closed. They
    /// hold up no other stream.
    unsent: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

/// The bytes of one response that h2 does not have yet.
pub(super) struct UnsentResponse {
    bytes: BytesMut,
    unread: Arc<UnreadResponses>,
}

impl UnreadResponses {
    /// Returns whether a stream may read more. If not, its task is woken when that has changed.
    pub(super) fn has_room(&self, cx: &Context<'_>) -> bool {
        let is_full = || self.bytes.load(Ordering::SeqCst) >= UNREAD_MAX;
        if !is_full() {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        // Bytes that were written before the task was listed wake nobody.
        !is_full()
    }

    /// Returns whether the client is behind with reading.
    pub(super) fn is_behind(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) + self.unsent.load(Ordering::SeqCst) >= UNREAD_LOW
    }

    /// Returns the bytes for h2, counted until it drops them.
    fn count(self: &Arc<Self>, bytes: BytesMut) -> Bytes {
        self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
        Bytes::from_owner(UnreadPiece { bytes, unread: self.clone() })
    }
}

impl UnsentResponse {
    pub(super) fn new(unread: Arc<UnreadResponses>) -> Self {
        UnsentResponse { bytes: BytesMut::new(), unread }
    }

    pub(super) fn unread(&self) -> &UnreadResponses {
        &self.unread
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.unread.unsent.fetch_add(bytes.len(), Ordering::SeqCst);
        if self.bytes.is_empty() {
            // Exactly as large as its bytes, which h2 keeps until the client reads them.
            self.bytes = BytesMut::from(bytes);
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Returns at most this many bytes for h2, counted until it drops them.
    pub(super) fn take(&mut self, most: usize) -> Bytes {
        // An empty rest would keep the memory of all its bytes.
        let piece = if most < self.bytes.len() {
            self.bytes.split_to(most)
        } else {
            mem::take(&mut self.bytes)
        };
        self.unread.unsent.fetch_sub(piece.len(), Ordering::SeqCst);
        self.unread.count(piece)
    }
}

impl Drop for UnsentResponse {
    fn drop(&mut self) {
        self.unread.unsent.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

struct UnreadPiece {
    bytes: BytesMut,
    unread: Arc<UnreadResponses>,
}

impl AsRef<[u8]> for UnreadPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for UnreadPiece {
    fn drop(&mut self) {
        let length = self.bytes.len();
        let before = self.unread.bytes.fetch_sub(length, Ordering::SeqCst);
        if before >= UNREAD_LOW && before - length < UNREAD_LOW {
            let mut waiting = self.unread.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = mem::take(&mut *waiting);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct WokenFlag(AtomicBool);

    impl Wake for WokenFlag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_stream_goes_on_once_half_is_written() {
        let unread = Arc::new(UnreadResponses::default());
        let woken = Arc::new(WokenFlag::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let piece = UNREAD_MAX / 4;
        let mut pieces: Vec<Bytes> = Vec::new();
        while unread.has_room(&cx) {
            pieces.push(unread.count(BytesMut::zeroed(piece)));
        }
        assert_eq!(pieces.len(), 4);
        for left in [3, 2] {
            pieces.pop();
            assert!(!woken.0.load(Ordering::SeqCst), "{left} pieces are left");
        }
        pieces.pop();
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(unread.has_room(&cx));
    }

    #[test]
    fn unsent_bytes_put_a_client_behind_and_hold_up_no_stream() {
        let unread = Arc::new(UnreadResponses::default());
        let cx = Context::from_waker(Waker::noop());
        let mut unsent = UnsentResponse::new(unread.clone());
        unsent.put(&vec![0; UNREAD_MAX]);
        assert!(unread.is_behind() && unread.has_room(&cx));
        let sent = unsent.take(UNREAD_MAX / 4);
        assert!(unread.is_behind());
        drop((sent, unsent));
        assert!(!unread.is_behind());
    }

    #[test]
    fn the_last_piece_takes_its_memory_along() {
        let mut unsent = UnsentResponse::new(Arc::default());
        unsent.put(&[1; 1_000]);
        assert_eq!(unsent.take(400).len(), 400);
        assert_eq!(unsent.take(usize::MAX).len(), 600);
        // An empty view of the same memory would have room for what was taken.
        assert_eq!((unsent.len(), unsent.bytes.try_reclaim(1)), (0, false));
    }

    #[test]
    fn bytes_count_until_their_last_copy_is_dropped() {
        let unread = Arc::new(UnreadResponses::default());
        let mut whole = unread.count(BytesMut::from(&b"abcdef"[..]));
        let part = whole.split_to(2);
        drop(whole);
        assert_eq!((&*part, unread.bytes.load(Ordering::SeqCst)), (&b"ab"[..], 6));
        drop(part);
        assert_eq!(unread.bytes.load(Ordering::SeqCst), 0);
    }
}
