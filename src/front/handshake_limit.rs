//! The handshake limit: as many handshakes at once as the current configuration allows; the others
//! wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The handshake limit of all listeners.
pub(super) struct HandshakeLimit {
    semaphore: Semaphore,
    /// Permits issued. Permits in use cannot be withdrawn until they are returned.
    given: AtomicUsize,
}

impl HandshakeLimit {
    pub(super) fn new(wanted: usize) -> Self {
        HandshakeLimit { semaphore: Semaphore::new(wanted), given: AtomicUsize::new(wanted) }
    }

    /// Waits for a permit, with a limit of `wanted` at once.
    pub(super) async fn permit(&self, wanted: usize) -> Option<SemaphorePermit<'_>> {
        self.adjust(wanted);
        self.semaphore.acquire().await.ok()
    }

    fn adjust(&self, wanted: usize) {
        let before = self.given.swap(wanted, Ordering::Relaxed);
        if before < wanted {
            self.semaphore.add_permits(wanted - before);
        } else if before > wanted {
            let taken = before - wanted - self.semaphore.forget_permits(before - wanted);
            self.given.fetch_add(taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_takes_effect_as_permits_return() {
        let limit = HandshakeLimit::new(4);
        let taken = limit.semaphore.try_acquire_many(3).unwrap();
        limit.adjust(2);
        assert_eq!(limit.semaphore.available_permits(), 0);
        drop(taken);
        limit.adjust(2);
        assert_eq!(limit.semaphore.available_permits(), 2);
        limit.adjust(3);
        assert_eq!(limit.semaphore.available_permits(), 3);
    }
}
