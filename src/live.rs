//! A value that is replaced while others read it: certificates, key sets, configuration.
//!
//! Owns the only use of `arc_swap`. The `Publisher` writes, a `Live` reads; a reader can never
//! write, and reading never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

struct Cell<T> {
    value: ArcSwap<T>,
    generation: AtomicU64,
}

/// The reading half: cheap to clone, never blocks, sees either the whole old or the whole new
/// value.
pub struct Live<T>(Arc<Cell<T>>);

/// The writing half. There is one for each value, and it is not `Clone`.
pub struct Publisher<T>(Arc<Cell<T>>);

/// A live value and the one handle that replaces it.
pub fn live<T>(initial: T) -> (Publisher<T>, Live<T>) {
    let cell =
        Arc::new(Cell { value: ArcSwap::from_pointee(initial), generation: AtomicU64::new(0) });
    (Publisher(cell.clone()), Live(cell))
}

impl<T> Live<T> {
    /// The value as it is now. Later publications do not change the returned value.
    pub fn load(&self) -> Arc<T> {
        self.0.value.load_full()
    }

    /// Borrows the value briefly, without touching its reference count.
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.value.load())
    }

    /// The number of times that the value was replaced.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live(generation {})", self.generation())
    }
}

impl<T> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}

impl<T> Publisher<T> {
    /// Replaces the value for every reader.
    pub fn publish(&self, value: T) {
        self.publish_arc(Arc::new(value));
    }

    /// Like [`Publisher::publish`], for a value that is already shared.
    pub fn publish_arc(&self, value: Arc<T>) {
        self.0.value.store(value);
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// Another reading half.
    pub fn reader(&self) -> Live<T> {
        Live(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_latest_value_and_keeps_a_loaded_one() {
        let (publisher, reader) = live(1);
        let old = reader.load();
        publisher.publish(2);
        assert_eq!((*old, *reader.load(), reader.generation()), (1, 2, 1));
        assert_eq!(publisher.reader().peek(|v| *v), 2);
    }
}
