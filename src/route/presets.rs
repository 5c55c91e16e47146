//! What the roles of a site system serve, as data: namespaces, methods, sizes, requirements, and
//! the reason for each.
//!
//! Holds no decisions in code. What no row names is denied.

use std::time::Duration;

use super::table::{Destination, Pattern, Requirement, Route, RouteTable, TokenHandling};
use crate::purpose::Purpose::{Client, Content, Media, Registration, TaskSequence};
use crate::purpose::Purposes;
use Requirement::{AltAuth, Anonymous, BootstrapMessage, Deny, DeviceOrUser, User, WindowsAuth};
use TokenHandling::{Forward, Strip};

/// What a site system does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Policy, messages, registration, user services.
    ManagementPoint,
    /// Content.
    DistributionPoint,
    /// The SMS Provider's administration service.
    AdministrationService,
    /// sitegate's own: what gateways on other hosts follow.
    SiteServer,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Role; 4] = [
        Role::ManagementPoint,
        Role::DistributionPoint,
        Role::AdministrationService,
        Role::SiteServer,
    ];

    /// The word used in configuration and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ManagementPoint => "management-point",
            Role::DistributionPoint => "distribution-point",
            Role::AdministrationService => "administration-service",
            Role::SiteServer => "site-server",
        }
    }

    /// The role of this exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

/// The routes of a role.
pub fn preset(role: Role) -> Vec<Route> {
    let rows = match role {
        Role::ManagementPoint => MANAGEMENT_POINT,
        Role::DistributionPoint => DISTRIBUTION_POINT,
        Role::AdministrationService => ADMINISTRATION_SERVICE,
        Role::SiteServer => SITE_SERVER,
    };
    let destination = match role {
        Role::SiteServer => Destination::SiteServer,
        _ => Destination::Backend,
    };
    rows.iter().map(|row| Route { destination, ..row.route() }).collect()
}

/// The namespace of the token service at a canonical path: its endpoints, and nothing else.
pub fn token_service(path: &str) -> Vec<Route> {
    let well_known = "/.well-known/oauth-authorization-server";
    let rows: [ServiceRow; 7] = [
        (
            "token-service",
            format!("{path}/"),
            &["GET", "HEAD", "POST"],
            Deny,
            "What is no endpoint of the token service is nothing.",
        ),
        (
            "token-service-metadata",
            format!("{well_known}{path}"),
            READ,
            Anonymous,
            "Where the endpoints are, as RFC 8414 has it: known to everyone.",
        ),
        (
            "token-service-metadata",
            format!("{path}{well_known}"),
            READ,
            Anonymous,
            "The same, for clients that look below the issuer.",
        ),
        (
            "token-service-keys",
            format!("{path}/jwks"),
            READ,
            Anonymous,
            "Public keys, by which anyone can verify the site's tokens.",
        ),
        (
            "token-service-registration",
            format!("{path}/register"),
            POST,
            Anonymous,
            "A client has no token yet; the service asks for a bulk or Entra token or a certificate.",
        ),
        (
            "token-service-token",
            format!("{path}/token"),
            POST,
            Anonymous,
            "Clients prove their keys, or exchange a token: the service judges both.",
        ),
        (
            "token-service-revocation",
            format!("{path}/revoke"),
            POST,
            Anonymous,
            "A client that has proved its key gives up a token of its own.",
        ),
    ];
    let route = |(name, path, methods, requirement, reason): ServiceRow| {
        Some(Route {
            name: name.into(),
            pattern: Pattern::parse(&path).ok()?,
            methods: methods.iter().map(|m| (*m).into()).collect(),
            body_bytes: Some(if methods == POST { SMALL } else { NO_BODY }),
            requirement,
            purposes: NOBODY,
            token: Forward,
            answer_time: None,
            websocket: false,
            destination: Destination::TokenService,
            reason: reason.into(),
        })
    };
    rows.into_iter().filter_map(route).collect()
}

type ServiceRow = (&'static str, String, &'static [&'static str], Requirement, &'static str);

/// The namespaces of all roles that are closed unless somebody opens them, or whose requests are
/// looked into.
/// With those of `own` that do not lead to the backend, which must not see what is meant for others.
pub fn guarded(own: &RouteTable) -> RouteTable {
    let is_guarded =
        |route: &Route| matches!(route.requirement, AltAuth | BootstrapMessage | WindowsAuth);
    let elsewhere = own.iter().filter(|route| route.destination != Destination::Backend).cloned();
    let presets = Role::ALL.into_iter().flat_map(preset).filter(is_guarded);
    RouteTable::new(Vec::new(), presets.chain(elsewhere).collect())
}

struct Row {
    name: &'static str,
    path: &'static str,
    methods: &'static [&'static str],
    body_bytes: u64,
    requirement: Requirement,
    purposes: Purposes,
    token: TokenHandling,
    reason: &'static str,
}

impl Row {
    fn route(&self) -> Route {
        Route {
            name: self.name.into(),
            pattern: Pattern::of_canonical(self.path),
            methods: self.methods.iter().map(|m| (*m).into()).collect(),
            body_bytes: Some(self.body_bytes),
            requirement: self.requirement,
            purposes: self.purposes,
            token: self.token,
            websocket: false,
            destination: Destination::Backend,
            answer_time: LONG_POLLS.contains(&self.name).then_some(LONG_POLL),
            reason: self.reason.into(),
        }
    }
}

/// Routes whose answer comes when there is something to say.
const LONG_POLLS: &[&str] = &["mp-notification", "site-bundle"];
/// Clients hold a poll for up to fifteen minutes.
const LONG_POLL: Duration = Duration::from_secs(20 * 60);

const READ: &[&str] = &["GET", "HEAD"];
const BROWSE: &[&str] = &["GET", "HEAD", "PROPFIND"];
const ASK: &[&str] = &["GET", "HEAD", "POST"];
const MESSAGE: &[&str] = &["CCM_POST"];

const NO_BODY: u64 = 0;
/// A PROPFIND, a token request, a status message.
const SMALL: u64 = 64 << 10;
/// A user's request.
const MEDIUM: u64 = 1 << 20;
/// A message; what is larger goes to the upload namespace.
const MESSAGE_BODY: u64 = 8 << 20;
/// An upload.
const UPLOAD: u64 = 1 << 30;

const NOBODY: Purposes = Purposes::NONE;
const CLIENTS: Purposes = Purposes::of(&[Client]);
const POLICY: Purposes = Purposes::of(&[Client, Media, TaskSequence]);
const REGISTERING: Purposes = Purposes::of(&[Registration, Client]);
const MESSAGING: Purposes = Purposes::of(&[Registration, Client, Media, TaskSequence]);
const CONTENT: Purposes = Purposes::of(&[Client, Content, Media, TaskSequence]);

macro_rules! rows {
    ($($name:literal $path:literal $methods:ident $body:ident $requirement:ident $purposes:ident $token:ident $reason:literal;)+) => {
        &[$(Row {
            name: $name, path: $path, methods: $methods, body_bytes: $body,
            requirement: $requirement, purposes: $purposes, token: $token, reason: $reason,
        },)+]
    };
}

const MANAGEMENT_POINT: &[Row] = rows! {
    "mp-location" "/sms_mp/.sms_aut" READ NO_BODY Anonymous NOBODY Strip
        "A client must find its site before it can have a token; location is public in every mode.";
    "mp-client-package" "/ccm_client/" BROWSE SMALL Anonymous NOBODY Strip
        "The client's installation files are fetched before there is a client.";
    "mp-policy" "/sms_mp/.sms_pol" READ NO_BODY DeviceOrUser POLICY Strip
        "Policy holds secrets; the backend alone would give it to anyone who can sign a header.";
    "mp-configuration-items" "/sms_mp/.sms_dcm" READ NO_BODY DeviceOrUser POLICY Strip
        "Configuration items and scripts are policy's documents.";
    "mp-token-policy" "/sms_mp_tokenauth/" READ NO_BODY DeviceOrUser POLICY Forward
        "The namespace for clients with tokens; the backend reads the token too.";
    "mp-messages" "/ccm_system/request" MESSAGE MESSAGE_BODY BootstrapMessage POLICY Strip
        "A client without a token may register and find its site here, by a small and well-formed message to one of those two endpoints; every other message shares the path, some were exploited without any credential, and all need a token.";
    "mp-token-messages" "/ccm_system_tokenauth/" MESSAGE MESSAGE_BODY DeviceOrUser MESSAGING Forward
        "Where a client with a token registers and sends its messages; a registration token is taken here because registration is a message.";
    "mp-token-service" "/ccm_sts/" ASK SMALL DeviceOrUser REGISTERING Forward
        "Exchanges a registration or Entra token for a client's; the backend's token service reads the token.";
    "mp-upload" "/ccm_incoming/" UPLOADS UPLOAD DeviceOrUser UPLOADING Strip
        "Inventory and state are uploaded here in pieces by BITS.";
    "mp-user-service" "/cmuserservice/" ASK MEDIUM User CLIENTS Forward
        "Software Center asks for a user's applications; the backend reads the user's token.";
    "mp-notification" "/bgb/" ASK MEDIUM DeviceOrUser CLIENTS Strip
        "Client notification's fallback is a long poll of one client.";
    "mp-fallback-status" "/sms_fsp/" POST SMALL Anonymous NOBODY Strip
        "A client that cannot get a token must be able to say so; small bodies only.";
    "mp-alt-auth" "/sms_mp_altauth/" READ NO_BODY AltAuth NOBODY Strip
        "Its authenticator is none that can be checked here, and it gave policy to strangers.";
    "mp-alt-auth-messages" "/ccm_system_altauth/" MESSAGE MESSAGE_BODY AltAuth NOBODY Strip
        "Boot media set their clock here, and anyone can register here without a credential.";
    "mp-windows-policy" "/sms_mp_windowsauth/" READ NO_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-messages" "/ccm_system_windowsauth/" MESSAGE MESSAGE_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-user-service" "/cmuserservice_windowsauth/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The backend authenticates the connection; users with tokens do not need it.";
};

const DISTRIBUTION_POINT: &[Row] = rows! {
    "dp-content" "/sms_dp_smspkg$/" BROWSE SMALL DeviceOrUser CONTENT Strip
        "Content is for clients of the site; a content token opens nothing else.";
    "dp-signatures" "/sms_dp_smssig$/" BROWSE SMALL DeviceOrUser CONTENT Strip
        "Signatures of content go with the content.";
    "dp-token-content" "/ccmtokenauth_sms_dp_smspkg$/" BROWSE SMALL DeviceOrUser CONTENT Forward
        "Where the management point sends clients with tokens; the backend reads the token too.";
    "dp-token-signatures" "/ccmtokenauth_sms_dp_smssig$/" BROWSE SMALL DeviceOrUser CONTENT Forward
        "Where the management point sends clients with tokens; the backend reads the token too.";
    "dp-windows-content" "/nocert_sms_dp_smspkg$/" BROWSE SMALL WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "dp-windows-signatures" "/nocert_sms_dp_smssig$/" BROWSE SMALL WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
};

const ADMINISTRATION_SERVICE: &[Row] = rows! {
    "admin-token" "/adminservice_tokenauth/" ASK MEDIUM User CLIENTS Forward
        "Administrators and consoles with a token; the service decides what they may do.";
    "admin-windows" "/adminservice/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The service authenticates the connection, and has no protection against relaying.";
};

const SITE_SERVER: &[Row] = rows! {
    "site-join" "/sitegate/site/v1/join" POST SMALL Anonymous NOBODY Strip
        "A gateway that joins has nothing to show but the secret in its join token.";
    "site-bundle" "/sitegate/site/v1/bundle" READ NO_BODY Anonymous NOBODY Strip
        "Gateways wait here for the next bundle; the site server knows them by their certificates.";
    "site-certificate" "/sitegate/site/v1/certificate" POST SMALL Anonymous NOBODY Strip
        "Gateways have certificates issued; the site server knows them by their certificates.";
    "site-identity" "/sitegate/site/v1/identity" POST SMALL Anonymous NOBODY Strip
        "A gateway names the certificate that it will show next, and shows the present one.";
    "site-token-service" "/sitegate/site/v1/token-service/" ASK SMALL Anonymous NOBODY Forward
        "What clients ask the token service of a gateway without a store; credentials go through.";
};

const POST: &[&str] = &["POST"];
const UPLOADS: &[&str] = &["BITS_POST", "GET", "HEAD"];
const UPLOADING: Purposes = Purposes::of(&[Client, TaskSequence]);
