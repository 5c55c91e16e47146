//! The message types that a management point serves, and which of them clients send without a
//! token.
//!
//! Data only. Microsoft publishes no list: these names are from client logs and from the management
//! point's own comparisons (public analyses of CVE-2024-43468).

/// The endpoint where a client locates its site.
const LOCATION: &str = "MP_LocationManager";
/// The endpoint where a client registers.
const REGISTRATION: &str = "MP_ClientRegistration";

/// The root element of a registration; its `RequestType` names the kind.
pub(super) const REGISTERS: &str = "ClientRegistrationRequest";
/// A request for the location of content, including the client's own installation files.
pub(super) const CONTENT: &str = "ContentLocationRequest";

/// Requests that a client sends before it can have a token. A content request is allowed only for
/// the client's own installation files; [`PayloadRequest::is_open`] checks that separately.
const NEWCOMERS: &[&str] = &[
    "SiteInformationRequest",
    "AssignedSiteRequest",
    "EnumerateMPLocationRequest",
    "TokenServicesRequest",
    CONTENT,
];

/// The kinds of registration.
const REGISTRATIONS: &[&str] = &["Registration", "ConfirmRegistration"];

/// Requests that registered clients send besides, where no token is required: over plain HTTP, on
/// AltAuth routes and with Windows authentication. All content may be asked for there.
const UNASKED: &[&str] = &[CONTENT, "WSUSLocationRequest"];

/// A parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadRequest {
    /// The root element.
    pub(super) root: String,
    /// The `RequestType` of a registration.
    pub(super) registers_as: Option<String>,
    /// Whether it asks for content other than the client's own installation files.
    pub(super) names_content: bool,
}

/// Why a client sends no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// It has none yet.
    Newcomer,
    /// It may be registered, but no token is required here.
    Unasked,
}

/// Whether an endpoint is open to all, by its name as clients write it.
pub(super) fn is_open(endpoint: &str) -> bool {
    matches!(endpoint, LOCATION | REGISTRATION)
}

/// Like [`is_open`], in any letter case: a management point could take such a name for an open
/// endpoint, and client logs also have the names in lower case.
pub(super) fn is_one_of_the_open(endpoint: &str) -> bool {
    [LOCATION, REGISTRATION].iter().any(|open| open.eq_ignore_ascii_case(endpoint))
}

impl PayloadRequest {
    /// The request's type: `RequestType` for a registration, the root element for all others.
    pub fn kind(&self) -> &str {
        self.registers_as.as_deref().unwrap_or(&self.root)
    }

    /// Whether it is a registration.
    pub(super) fn registers(&self) -> bool {
        self.root == REGISTERS
    }

    /// Whether it asks for content other than the client's own installation files.
    pub(super) fn names_content(&self) -> bool {
        self.names_content
    }

    /// Whether this request may be sent without a token to an open endpoint. `more` are the kinds
    /// that the operator has added.
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
