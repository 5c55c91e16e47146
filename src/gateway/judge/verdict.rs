//! The verdict on a request: a pass, or a refusal with its reason.

use std::borrow::Cow;
use std::sync::Arc;

use super::headers::CredentialField;
use crate::denial::Denial;
use crate::route::{Translation, plainly_spelled};
use crate::token::{Fingerprint, Missed, Verified};

/// An admitted request.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The identity of its verified token; `None` without one.
    pub verified: Option<Arc<Verified>>,
    /// Whether its token is forwarded.
    pub forward_token: bool,
    /// Whether it passes without the token that its route requires.
    pub unasked: bool,
    /// Whether the backend connection must not be shared.
    pub pinned: bool,
    /// Whether the token came from the cache; `None` without a token.
    pub cached: Option<bool>,
    /// Whether its connection may be upgraded to WebSocket.
    pub websocket: bool,
    /// The rewrite of its target for the backend; `None` leaves the target unchanged.
    pub translation: Option<Translation>,
    /// The refusal that enforcing would give, if the site system observes.
    pub observed: Option<Box<Refused>>,
}

impl Pass {
    /// The pass of an unauthenticated request.
    pub fn of_nobody() -> Self {
        Pass {
            verified: None,
            forward_token: false,
            unasked: false,
            pinned: false,
            cached: None,
            websocket: false,
            translation: None,
            observed: None,
        }
    }

    /// Returns the target for the backend; `None` if the translation fails, which cannot happen for
    /// a target that its route covers.
    pub fn target<'a>(&self, came: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let plain = plainly_spelled(came);
        match self.translation {
            None => Some(plain),
            Some(translation) => translation.apply(&plain).map(Cow::Owned),
        }
    }

    /// Returns which of the client's credentials pass to the backend.
    pub fn credential(&self) -> CredentialField {
        match (self.pinned, self.forward_token) {
            (true, _) => CredentialField::Any,
            (false, true) => CredentialField::Token,
            (false, false) => CredentialField::None,
        }
    }
}

/// A refused request.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The reason.
    pub denial: Denial,
    /// Details, for the log only.
    pub detail: Option<String>,
    /// The key that the token named, made safe for logs.
    pub kid: Option<String>,
    /// The token's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// The key that its issuer lacks, if newer keys could admit the request.
    pub missed: Option<Missed>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Refused { denial, detail: None, kid: None, fingerprint: None, missed: None }
    }
}
