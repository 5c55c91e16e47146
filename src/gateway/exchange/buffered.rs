//! Accounts for bytes buffered in memory: requests before they are forwarded, and responses before
//! they are complete. Limited per connection, and for all connections together.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::permits::Bound;
use crate::front::ConnState;
use crate::metrics::Level;

/// The limit per connection: a listing for link rewriting, and the requests beside it.
const CONNECTION_BYTES_MAX: usize = 1152 * 1024;

/// The bytes buffered for all connections.
#[derive(Debug)]
pub(in crate::gateway) struct BufferLimit {
    all: Level,
    /// Those of unauthenticated requests, limited to half.
    anonymous: Bound,
}

/// Buffered bytes, counted until they are released or this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct BufferedBytes {
    of: Arc<BufferLimit>,
    connection: Arc<ConnState>,
    bytes: usize,
    anonymous: bool,
    /// The limit for all connections.
    most: usize,
}

impl BufferLimit {
    /// Creates an empty account; the gauge shows its bytes.
    pub(in crate::gateway) fn new(all: Level) -> Arc<Self> {
        Arc::new(BufferLimit { all, anonymous: Bound::default() })
    }

    /// Counts the head of a request; `None` if there is no room for it.
    pub(in crate::gateway) fn hold(
        self: &Arc<Self>,
        connection: &Arc<ConnState>,
        bytes: usize,
        most: usize,
    ) -> Option<BufferedBytes> {
        let (of, connection) = (self.clone(), connection.clone());
        let mut held = BufferedBytes { of, connection, bytes: 0, anonymous: false, most };
        held.add(bytes).then_some(held)
    }
}

impl BufferedBytes {
    /// Counts more bytes. Returns whether there is room for them.
    pub(in crate::gateway) fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.of.all.add(bytes);
        let of_connection = self.connection.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.anonymous {
            self.of.anonymous.0.fetch_add(bytes, Ordering::Relaxed);
        }
        of_connection <= CONNECTION_BYTES_MAX && self.of.all.get() <= self.most && self.has_half()
    }

    /// Counts its bytes as those of an unauthenticated request. Returns whether there is room.
    pub(in crate::gateway) fn count_as_anonymous(&mut self) -> bool {
        if !self.anonymous {
            self.anonymous = true;
            self.of.anonymous.0.fetch_add(self.bytes, Ordering::Relaxed);
        }
        self.has_half()
    }

    fn has_half(&self) -> bool {
        !self.anonymous || self.of.anonymous.used() <= self.most / 2
    }

    /// Opens an account for other bytes of the same request.
    pub(super) fn another(&self) -> BufferedBytes {
        let (of, connection) = (self.of.clone(), self.connection.clone());
        BufferedBytes { of, connection, bytes: 0, ..*self }
    }

    /// Counts its bytes no more.
    pub(super) fn release(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.of.all.sub(bytes);
        self.connection.held.fetch_sub(bytes, Ordering::Relaxed);
        if self.anonymous {
            self.of.anonymous.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const MIB: usize = 1024 * 1024;

    fn nothing() -> Arc<BufferLimit> {
        BufferLimit::new(Metrics::new().unwrap().requests.buffered_bytes())
    }

    fn connection() -> Arc<ConnState> {
        Arc::default()
    }

    #[test]
    fn a_connection_has_its_part() {
        let of = nothing();
        let (one, two) = (connection(), connection());
        let mut held = of.hold(&one, 1000, usize::MAX).unwrap();
        assert!(held.add(MIB));
        assert!(!held.add(MIB), "too much for one connection");
        assert!(of.hold(&one, 1, usize::MAX).is_none());
        assert!(of.hold(&two, 1, usize::MAX).is_some());
    }

    /// How many of so many connections have room for a MiB of ten.
    fn with_room(count: usize, anonymous: bool) -> usize {
        let of = nothing();
        let hold = |_| of.hold(&connection(), 0, 10 * MIB);
        let mut held: Vec<BufferedBytes> = (0..count).filter_map(hold).collect();
        let has_room =
            |held: &mut BufferedBytes| (!anonymous || held.count_as_anonymous()) && held.add(MIB);
        let admitted = held.iter_mut().filter_map(|held| has_room(held).then_some(())).count();
        drop(held);
        assert_eq!(of.all.get(), 0);
        admitted
    }

    #[test]
    fn unauthenticated_requests_have_half() {
        assert_eq!(with_room(20, true), 5);
        assert_eq!(with_room(20, false), 10);
    }

    #[test]
    fn the_heads_of_unauthenticated_requests_count_in_their_half() {
        let of = nothing();
        let connections: Vec<_> = (0..10).map(|_| connection()).collect();
        let heads = connections.iter().filter_map(|one| of.hold(one, MIB, 10 * MIB));
        let mut heads: Vec<BufferedBytes> = heads.collect();
        assert!(heads[0].count_as_anonymous());
        heads[0].count_as_anonymous();
        assert_eq!(of.anonymous.used(), MIB, "counted once");
        let others = heads.iter_mut().skip(1);
        assert_eq!(others.filter_map(|h| h.count_as_anonymous().then_some(())).count(), 4);
    }

    #[test]
    fn released_and_dropped_bytes_do_not_count() {
        let of = nothing();
        let one = connection();
        let mut held = of.hold(&one, 5, 10).unwrap();
        held.count_as_anonymous();
        let mut listing = held.another();
        assert!(!listing.add(100), "counted until it is dropped");
        held.release();
        assert_eq!((of.all.get(), of.anonymous.used()), (100, 100));
        drop((held, listing));
        let left = [of.anonymous.used(), one.held.load(Ordering::Relaxed)];
        assert_eq!((of.all.get(), left), (0, [0; 2]));
    }
}
