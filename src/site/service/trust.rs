//! The tokens that the service accepts: those that the site system in front of it would accept.
//!
//! Every token of a client is checked here, for all endpoints.

use jiff::Timestamp;

use super::TokenServing;
use super::caller::Caller;
use crate::denial::Denial;
use crate::token::{BearerToken, IssuerKind, Refusal, Verified, verify};

/// The namespace of the ids in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// The hierarchy's own: the site or another site of the same hierarchy issued the token.
    Site,
    /// Entra's: GUIDs that users cannot choose.
    Entra,
    /// Other issuers': their user names may equal those of other issuers.
    Other,
}

impl TokenServing {
    /// Verifies a token with the issuers that the receiving site system accepts.
    ///
    /// # Errors
    /// As at that site system: an issuer that is trusted elsewhere is unknown here.
    pub(super) fn verified(
        &self,
        caller: &Caller,
        text: &str,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let malformed = |denial| Refusal::new(denial, "its shape is not that of a signed JWT");
        let token = BearerToken::parse(text.as_bytes()).map_err(malformed)?;
        let verified = verify(&token, &self.service.trusted.load(), now)?;
        if caller.accepted_iss.iter().any(|iss| iss == verified.iss()) {
            Ok(verified)
        } else {
            Err(Refusal::new(
                Denial::TokenIssuer,
                "its issuer is not one that the site system accepts",
            ))
        }
    }

    /// Whether the site itself issued a token.
    pub(super) fn is_own(&self, verified: &Verified) -> bool {
        verified.issuer().name == self.service.own_issuer
    }

    /// The namespace of the ids in a token.
    pub(super) fn namespace(&self, verified: &Verified) -> Namespace {
        match verified.issuer().kind {
            _ if self.is_own(verified) => Namespace::Site,
            IssuerKind::Site { hierarchy: Some(theirs) }
                if theirs == self.service.tokens.hierarchy() =>
            {
                Namespace::Site
            }
            IssuerKind::Entra { .. } => Namespace::Entra,
            IssuerKind::Site { .. } | IssuerKind::Oidc(_) => Namespace::Other,
        }
    }
}
