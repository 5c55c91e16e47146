//! One large read buffer per thread, lent for the length of a poll. Its bytes are passed on at
//! once; the reader stores only the rest.

use std::cell::RefCell;

/// The most bytes per read. Large reads make bulk transfers cheap.
pub(in crate::gateway) const SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Lends its first `size` bytes.
pub(in crate::gateway) fn with<T>(size: usize, lend: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let size = size.min(scratch.len());
        lend(scratch.split_at_mut(size).0)
    })
}
