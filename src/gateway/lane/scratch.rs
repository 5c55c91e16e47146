//! One large buffer for each thread, lent for the length of a poll: what is read into it is handed on
//! at once, and only what could not be is kept by whoever reads.

use std::cell::RefCell;

/// The most that is read at a time. Large reads are what makes bulk cheap.
pub(super) const SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Lend the first `size` bytes of it.
pub(super) fn with<T>(size: usize, lend: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let size = size.min(scratch.len());
        lend(scratch.split_at_mut(size).0)
    })
}
