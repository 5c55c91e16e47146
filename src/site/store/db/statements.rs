//! The statements that this thread has run, for a test that reads their plans.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static SEEN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

pub(in crate::site::store) fn note(sql: &'static str) {
    SEEN.with_borrow_mut(|seen| seen.insert(sql));
}

/// Returns the statements since the last call.
pub(in crate::site::store) fn take() -> BTreeSet<&'static str> {
    SEEN.take()
}
