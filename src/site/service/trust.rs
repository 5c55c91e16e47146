//! Which tokens the service believes: those that the site system in front of it would let in.
//!
//! Every token that a client brings goes through here, whatever endpoint it is for.

use jiff::Timestamp;

use super::Serving;
use super::caller::Caller;
use crate::denial::Denial;
use crate::token::{BearerToken, IssuerKind, Refusal, Verified, verify};

/// Whose ids a token speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// The hierarchy's own: the site issued the token, or a site of the same hierarchy.
    Site,
    /// Entra's, whose ids are GUIDs that nobody chooses.
    Entra,
    /// Anybody's. What they call their users may be the name of somebody else's.
    Other,
}

impl Serving {
    /// Verify a token, by the issuers that the site system accepts by which the request came.
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
        match caller.accepted_iss.iter().any(|iss| iss == verified.iss()) {
            true => Ok(verified),
            false => Err(Refusal::new(
                Denial::TokenIssuer,
                "its issuer is not one that the site system accepts",
            )),
        }
    }

    /// Whether the site itself issued a token.
    pub(super) fn is_own(&self, verified: &Verified) -> bool {
        verified.issuer().name == self.service.own_issuer
    }

    /// Whose ids a token speaks of.
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
