//! The requests that a management point knows, by who has to send them without a token.
//!
//! Data alone. Microsoft publishes no list: these are the names that clients write into their logs,
//! and those that the management point compares with (public analyses of CVE-2024-43468).

use super::Request;

/// Where a client finds its site.
const LOCATION: &str = "MP_LocationManager";
/// Where a client registers.
const REGISTRATION: &str = "MP_ClientRegistration";

/// The payload of a registration, which says by its type what is asked for.
pub(super) const REGISTERS: &str = "ClientRegistrationRequest";
/// Where a client's own installation files are, or any other content.
pub(super) const CONTENT: &str = "ContentLocationRequest";

/// What a client asks before it can have a token. Of content it asks for its own installation files
/// alone, which is seen to beside this list.
const NEWCOMERS: &[&str] = &[
    "SiteInformationRequest",
    "AssignedSiteRequest",
    "EnumerateMPLocationRequest",
    "TokenServicesRequest",
    CONTENT,
];

/// What registrations are.
const REGISTRATIONS: &[&str] = &["Registration", "ConfirmRegistration"];

/// What clients at work ask besides, where nobody asks them for a token: in clear, on AltAuth routes
/// and by Windows authentication. That content is not a client's own is no matter there.
const UNASKED: &[&str] = &[CONTENT, "WSUSLocationRequest"];

/// Who asks without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client that has none yet.
    Newcomer,
    /// A client that may be at work, and is not asked for one.
    Unasked,
}

/// Whether an endpoint is open to everyone, by its name as clients write it.
pub(super) fn is_open(endpoint: &str) -> bool {
    matches!(endpoint, LOCATION | REGISTRATION)
}

/// Whether a management point could take a name for that of such an endpoint: logs of clients have
/// them in lower case as well.
pub(super) fn is_one_of_the_open(endpoint: &str) -> bool {
    [LOCATION, REGISTRATION].iter().any(|open| open.eq_ignore_ascii_case(endpoint))
}

impl Request {
    /// Whether somebody may ask this without a token at an endpoint that is open. `more` are the
    /// kinds that an operator has added.
    pub fn is_open(&self, endpoint: &str, asker: Asker, more: &[String]) -> bool {
        let registers = endpoint.eq_ignore_ascii_case(REGISTRATION);
        if self.registers() != registers {
            return false;
        }
        let kind = self.kind();
        let known = if registers { REGISTRATIONS } else { NEWCOMERS };
        let newcomers = known.contains(&kind) && !self.names_content();
        let others = asker == Asker::Unasked && !registers && UNASKED.contains(&kind);
        newcomers || others || more.iter().any(|more| more == kind)
    }
}
