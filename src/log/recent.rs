//! The last refusals, kept for those who run sitegate: a ring of bounded memory.
//!
//! Told of refusals alone, so that a request that passes costs nothing here. Holds no token, no query
//! and no more of what a client sent than stands in it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::access::Access;

/// How much of a path is kept, in characters.
const PATH_CHARS_MAX: usize = 200;
/// How much of a method.
const METHOD_CHARS_MAX: usize = 32;
/// How much of what was wrong in particular.
const DETAIL_CHARS_MAX: usize = 300;

/// A request that was refused, would have been, or failed after it had passed.
#[derive(Clone, Debug, Serialize)]
pub struct RecentDenial {
    /// When it was over.
    pub time: Timestamp,
    /// Its id, the same as in the access log.
    pub request_id: Box<str>,
    /// The site system that it was for.
    pub site_system: Box<str>,
    /// The client's address.
    pub client: IpAddr,
    /// The method, at most 32 characters of it; empty if the head was not read.
    pub method: Box<str>,
    /// The path without its query, at most 200 characters of it.
    pub path: Box<str>,
    /// The route, if one was found.
    pub route: Option<Box<str>>,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// `denied`, `would-deny`, or `allowed` for what failed afterwards.
    pub decision: Box<str>,
    /// The code of the refusal.
    pub reason: Box<str>,
    /// What was wrong in particular, at most 300 characters of it.
    pub detail: Option<Box<str>>,
}

/// The last refusals. Cheap to clone; all clones are one ring.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Arc<RecentDenial>>>>);

impl Recent {
    /// How many are kept.
    pub const MAX: usize = 1000;

    /// Those that are kept, the newest first.
    pub fn list(&self) -> Vec<Arc<RecentDenial>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }

    /// A request is over; it is kept if there was something against it.
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
        // What is made and what is freed is so outside the lock: it is held for a few instructions.
        let oldest = {
            let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = (ring.len() >= Self::MAX).then(|| ring.pop_front()).flatten();
            ring.push_back(denial);
            oldest
        };
        drop(oldest);
    }
}

/// At most so many characters of a text.
pub(super) fn cut(text: &str, chars: usize) -> &str {
    match text.char_indices().nth(chars) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
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
    fn only_the_last_thousand_are_kept_the_newest_first_and_none_that_passed() {
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
    fn a_path_is_cut_at_two_hundred_characters_whatever_they_are() {
        let recent = Recent::default();
        for text in ["x".repeat(100_000), "\u{1F600}".repeat(300)] {
            recent.tell(&access("1", &text, Some("path.ambiguous")));
            assert_eq!(recent.list()[0].path.chars().count(), 200);
        }
    }
}
