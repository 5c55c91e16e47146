//! Counts open connections by site system and TLS version.
//!
//! Only for status. Each connection takes the lock twice, briefly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::ConnInfo;

/// Open connections, by the name of the site system and by `TLSv1_2` or `TLSv1_3`. Zero counts are
/// omitted.
pub type ByTlsVersion = BTreeMap<(Arc<str>, &'static str), usize>;

/// The counts. Cheap to clone; all clones share them.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<Mutex<ByTlsVersion>>);

impl OpenConnections {
    /// Returns the current counts.
    pub fn open(&self) -> ByTlsVersion {
        self.lock().clone()
    }

    /// Counts a connection until the guard is dropped.
    pub(super) fn enter<'a>(&'a self, info: &Arc<ConnInfo>) -> CountedConnection<'a> {
        *self.lock().entry(key(info)).or_default() += 1;
        CountedConnection { open: self, info: info.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, ByTlsVersion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection.
pub(super) struct CountedConnection<'a> {
    open: &'a OpenConnections,
    info: Arc<ConnInfo>,
}

impl Drop for CountedConnection<'_> {
    fn drop(&mut self) {
        let key = key(&self.info);
        let mut open = self.open.lock();
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
