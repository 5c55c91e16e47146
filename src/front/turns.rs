//! Turns to shake hands: as many at once as the configuration of the moment has, the others wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of all listeners.
pub(super) struct Turns {
    semaphore: Semaphore,
    /// Permits that it was given: those that are taken cannot be withdrawn, and have to be when they
    /// come back.
    given: AtomicUsize,
}

impl Turns {
    pub(super) fn new(wanted: usize) -> Self {
        Turns { semaphore: Semaphore::new(wanted), given: AtomicUsize::new(wanted) }
    }

    /// A turn, where `wanted` are to be had at once.
    pub(super) async fn turn(&self, wanted: usize) -> Option<SemaphorePermit<'_>> {
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
    fn a_limit_lowered_below_what_is_taken_holds_once_it_comes_back() {
        let turns = Turns::new(4);
        let taken = turns.semaphore.try_acquire_many(3).unwrap();
        turns.adjust(2);
        assert_eq!(turns.semaphore.available_permits(), 0);
        drop(taken);
        turns.adjust(2);
        assert_eq!(turns.semaphore.available_permits(), 2);
        turns.adjust(3);
        assert_eq!(turns.semaphore.available_permits(), 3);
    }
}
