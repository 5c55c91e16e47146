//! The recent denials, for operators: a ring buffer of bounded memory.
//!
//! Records only denials, so a request that passes costs nothing here. Stores no token, no query,
//! and no more client input than its fields hold.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::access_entry::{Access, cut};

/// The stored length of a path, in characters.
const PATH_CHARS_MAX: usize = 200;
/// The stored length of a method.
const METHOD_CHARS_MAX: usize = 32;
/// The stored length of the details.
const DETAIL_CHARS_MAX: usize = 300;

/// A request that was denied, would have been, or failed after it had passed.
#[derive(Clone, Debug, Serialize)]
pub struct RecentDenial {
    /// When the request ended.
    pub time: Timestamp,
    /// Its id, the same as in the access log.
    pub request_id: Box<str>,
    /// Its site system.
    pub site_system: Box<str>,
    /// The client's address.
    pub client: IpAddr,
    /// The method, at most 32 characters; empty if the head was not read.
    pub method: Box<str>,
    /// The path without its query, at most 200 characters.
    pub path: Box<str>,
    /// The route, if one was found.
    pub route: Option<Box<str>>,
    /// The status of the response; 0 if there was none.
    pub status: u16,
    /// `denied`, `would-deny`, or `allowed` for a request that failed afterwards.
    pub decision: Box<str>,
    /// The code of the denial.
    pub reason: Box<str>,
    /// The details, at most 300 characters.
    pub detail: Option<Box<str>>,
}

/// The recent denials. Cheap to clone; all clones share one ring.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Arc<RecentDenial>>>>);

impl Recent {
    /// How many are stored.
    pub const MAX: usize = 1000;

    /// The stored denials, the newest first.
    pub fn list(&self) -> Vec<Arc<RecentDenial>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }

    /// Records a finished request, if it has a denial reason.
    pub(super) fn tell(&self, access: &Access<'_>) {
        let Some(reason) = access.reason else { return };
        let denial = Arc::new(RecentDenial {
            time: access.time,
            request_id: access.request_id.into(),
            site_system: access.site_system.into(),
            client: access.client,
            method: cut(access.method, METHOD_CHARS_MAX).into(),
            path: cut(access.path, PATH_CHARS_MAX).into(),
            route: access.route.map(Box::from),
            status: access.status,
            decision: access.decision.into(),
            reason: reason.into(),
            detail: access.detail.map(|detail| cut(detail, DETAIL_CHARS_MAX).into()),
        });
        // Allocation and deallocation are outside the lock, which is held for a few instructions.
        let oldest = {
            let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = (ring.len() >= Self::MAX).then(|| ring.pop_front()).flatten();
            ring.push_back(denial);
            oldest
        };
        drop(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access<'a>(id: &'a str, path: &'a str, reason: Option<&'a str>) -> Access<'a> {
        Access {
            time: Timestamp::UNIX_EPOCH,
            request_id: id,
            site_system: "mp01",
            client: "192.0.2.1".parse().unwrap(),
            method: "GET",
            path,
            decision: if reason.is_some() { "denied" } else { "allowed" },
            reason,
            ..Access::unread()
        }
    }

    #[test]
    fn the_last_thousand_denials_are_kept_newest_first() {
        let recent = Recent::default();
        for n in 0..1500 {
            recent.tell(&access(&n.to_string(), "/x", Some("token.missing")));
            recent.tell(&access("passed", "/x", None));
        }
        let list = recent.list();
        assert_eq!(list.len(), Recent::MAX);
        assert_eq!((&*list[0].request_id, &*list[999].request_id), ("1499", "500"));
    }

    #[test]
    fn a_path_is_cut_at_two_hundred_characters() {
        let recent = Recent::default();
        for text in ["x".repeat(100_000), "\u{1F600}".repeat(300)] {
            recent.tell(&access("1", &text, Some("path.ambiguous")));
            assert_eq!(recent.list()[0].path.chars().count(), 200);
        }
    }
}
