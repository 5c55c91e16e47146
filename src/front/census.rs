//! How many connections are open, by the site system and the version of TLS that they have.
//!
//! Counts for status alone. A connection costs it two short turns, beside its handshake.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::ConnInfo;

/// Open connections, by the name of the site system and by `TLSv1_2` or `TLSv1_3`. What there is
/// none of is not in it.
pub type Open = BTreeMap<(Arc<str>, &'static str), usize>;

/// The count. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Mutex<Open>>);

impl Census {
    /// The counts of the moment.
    pub fn open(&self) -> Open {
        self.lock().clone()
    }

    /// Count a connection until the guard is dropped.
    pub(super) fn enter<'a>(&'a self, info: &Arc<ConnInfo>) -> Counted<'a> {
        *self.lock().entry(key(info)).or_default() += 1;
        Counted { census: self, info: info.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection.
pub(super) struct Counted<'a> {
    census: &'a Census,
    info: Arc<ConnInfo>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let key = key(&self.info);
        let mut open = self.census.lock();
        if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
            }
        }
    }
}

fn key(info: &ConnInfo) -> (Arc<str>, &'static str) {
    (info.site.clone(), info.tls_version)
}
