//! The rows of every role: namespace, methods, size, requirement, purposes, token, and the reason.
//!
//! Only data.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::table::{Requirement, TokenHandling};
use crate::purpose::Purpose::{Client, Content, Media, Registration, TaskSequence};
use crate::purpose::Purposes;
use Requirement::{AltAuth, Anonymous, BootstrapMessage, Deny, DeviceOrUser, User, WindowsAuth};
use TokenHandling::{Forward, Strip};

/// A route, as data.
pub(super) struct PresetRow {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) methods: &'static [&'static str],
    pub(super) body_bytes: u64,
    pub(super) requirement: Requirement,
    pub(super) purposes: Purposes,
    pub(super) token: TokenHandling,
    pub(super) reason: &'static str,
}

/// The route with checked queries.
pub(super) const LOCATION: &str = "mp-location";
/// The queries of clients there: management points and sites, and their keys. Microsoft publishes
/// no list; these words are from clients' logs and from public tools.
pub(super) const LOCATION_QUERIES: &[&str] = &[
    "MPLIST",
    "MPLIST1",
    "MPLIST2",
    "MPCERT",
    "MPCERT2",
    "MPLOCATION",
    "MPKEYINFORMATION",
    "MPKEYINFORMATIONEX",
    "SITESIGNCERT",
    "SMSTRC",
    "GETCLIENTAFFINITY",
];
/// The queries of boot media: the ids under which unknown computers get policy.
pub(super) const MEDIA_QUERIES: &[&str] = &["MPKEYINFORMATIONMEDIA"];
/// Long-poll routes: the response comes when there is news.
pub(super) const LONG_POLLS: &[&str] = &["mp-notification", "site-bundle"];
/// Anonymous uploads that are stored.
pub(super) const ANONYMOUS_UPLOADS: &[&str] = &["fallback-status"];
/// An installation sends a few dozen messages, and an office shares one address.
pub(super) const UPLOADS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);
/// Clients hold a poll open for up to fifteen minutes.
pub(super) const LONG_POLL: Duration = Duration::from_secs(20 * 60);

pub(super) const READ: &[&str] = &["GET", "HEAD"];
const BROWSE: &[&str] = &["GET", "HEAD", "PROPFIND"];
const ASK: &[&str] = &["GET", "HEAD", "POST"];
const MESSAGE: &[&str] = &["CCM_POST"];
pub(super) const POST: &[&str] = &["POST"];
/// Every packet of the BITS upload protocol is sent by this verb ([MC-BUP] §2.1).
const UPLOADS: &[&str] = &["BITS_POST"];
/// All methods of the web portal of Reporting Services.
const MANAGE: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) const NO_BODY: u64 = 0;
/// A PROPFIND, a token request, a status message.
pub(super) const SMALL: u64 = 64 << 10;
/// The largest bundle.
pub(super) const BUNDLE: u64 = 32 << 20;
/// A user's request.
const MEDIUM: u64 = 1 << 20;
/// A message; larger ones go to the upload namespace.
const MESSAGE_BODY: u64 = 8 << 20;
/// The inventory that a Windows Update client sends in one call: everything it has installed.
const UPDATES: u64 = 8 << 20;
/// A report that is published.
const REPORT: u64 = 64 << 20;
/// An upload.
const UPLOAD: u64 = 1 << 30;

pub(super) const NOBODY: Purposes = Purposes::NONE;
const CLIENTS: Purposes = Purposes::of(&[Client]);
const POLICY: Purposes = Purposes::of(&[Client, Media, TaskSequence]);
const REGISTERING: Purposes = Purposes::of(&[Registration, Client]);
const MESSAGING: Purposes = Purposes::of(&[Registration, Client, Media, TaskSequence]);
const UPLOADING: Purposes = Purposes::of(&[Client, TaskSequence]);
const CONTENT: Purposes = Purposes::of(&[Client, Content, Media, TaskSequence]);

macro_rules! rows {
    ($($name:literal $path:literal $methods:ident $body:ident $requirement:ident $purposes:ident $token:ident $reason:literal;)+) => {
        &[$(PresetRow {
            name: $name, path: $path, methods: $methods, body_bytes: $body,
            requirement: $requirement, purposes: $purposes, token: $token, reason: $reason,
        },)+]
    };
}

pub(super) const MANAGEMENT_POINT: &[PresetRow] = rows! {
    "mp-location" "/sms_mp/.sms_aut" READ NO_BODY Anonymous NOBODY Strip
        "A client must find its site before it can have a token; location is public in every mode, for the queries that clients are known to send.";
    "mp-client-package" "/ccm_client/" BROWSE SMALL Anonymous NOBODY Strip
        "The client's installation files are downloaded before there is a client.";
    "mp-policy" "/sms_mp/.sms_pol" READ NO_BODY DeviceOrUser POLICY Strip
        "Policy contains secrets; without sitegate the backend would give it to any client that can sign a header.";
    "mp-configuration-items" "/sms_mp/.sms_dcm" READ NO_BODY DeviceOrUser POLICY Strip
        "Configuration items and scripts are documents of the policy.";
    "mp-token-policy" "/sms_mp_tokenauth/" READ NO_BODY DeviceOrUser POLICY Forward
        "The namespace for clients with tokens; the backend reads the token too.";
    "mp-messages" "/ccm_system/request" MESSAGE MESSAGE_BODY BootstrapMessage POLICY Strip
        "A client without a token may register and find its site here, with a small and well-formed message to one of two endpoints and a known request. All other messages use the same path and need a token: some could be exploited without any credential.";
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
    "fallback-status" "/sms_fsp/" POST SMALL Anonymous NOBODY Strip
        "A client that cannot get a token must be able to say so; small bodies only.";
    "mp-alt-auth" "/sms_mp_altauth/" READ NO_BODY AltAuth NOBODY Strip
        "sitegate cannot check its authenticator, and the namespace has given policy to unauthenticated clients.";
    "mp-alt-auth-messages" "/ccm_system_altauth/" MESSAGE MESSAGE_BODY AltAuth NOBODY Strip
        "Boot media set their clock here, and anyone can register here without a credential.";
    "mp-windows-policy" "/sms_mp_windowsauth/" READ NO_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-messages" "/ccm_system_windowsauth/" MESSAGE MESSAGE_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-user-service" "/cmuserservice_windowsauth/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The backend authenticates the connection; users with tokens do not need it.";
    "mp-bitlocker-recovery" "/sms_mp_mbam/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The recovery service of BitLocker management, for clients and its portals; the backend authenticates the connection, and its application wants an https backend.";
};

pub(super) const DISTRIBUTION_POINT: &[PresetRow] = rows! {
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

pub(super) const ADMINISTRATION_SERVICE: &[PresetRow] = rows! {
    "admin-token" "/adminservice_tokenauth/" ASK MEDIUM User CLIENTS Forward
        "For administrators and consoles with a token; the service decides what they may do.";
    "admin-windows" "/adminservice/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The service authenticates the connection, and has no protection against relaying.";
};

pub(super) const SOFTWARE_UPDATE_POINT: &[PresetRow] = rows! {
    "sup-client" "/clientwebservice/" ASK UPDATES Anonymous NOBODY Strip
        "The update agent has no token: the service gives it a cookie of its own, and what it offers is public.";
    "sup-authorization" "/simpleauthwebservice/" ASK SMALL Anonymous NOBODY Strip
        "The update agent gets that cookie here; it names its target group and does not authenticate.";
    "sup-reporting" "/reportingwebservice/" ASK UPDATES Anonymous NOBODY Strip
        "The update agent reports the results of its updates here, without a token.";
    "sup-content" "/content/" READ NO_BODY Anonymous NOBODY Strip
        "Update files are signed by their publisher, and the agent checks that, so anyone may read them.";
    "sup-self-update" "/selfupdate/" READ NO_BODY Anonymous NOBODY Strip
        "Older agents look here for a newer agent; the files are signed.";
    "sup-inventory" "/inventory/" READ NO_BODY Anonymous NOBODY Strip
        "Agents that collect inventory read this without a token, as they do from the server itself.";
    "sup-administration" "/apiremoting30/" ASK UPDATES WindowsAuth NOBODY Strip
        "Consoles administer the update service here; the backend authenticates the connection.";
    "sup-downstream" "/serversyncwebservice/" POST UPDATES Deny NOBODY Strip
        "Other update servers synchronise here, and clients never do; a route of your own opens it.";
    "sup-downstream-authorization" "/dssauthwebservice/" POST SMALL Deny NOBODY Strip
        "Other update servers synchronise here, and clients never do; a route of your own opens it.";
};

pub(super) const FALLBACK_STATUS_POINT: &[PresetRow] = rows! {
    "fallback-status" "/sms_fsp/" POST SMALL Anonymous NOBODY Strip
        "A client that cannot get a token must be able to say so; small bodies only.";
};

pub(super) const STATE_MIGRATION_POINT: &[PresetRow] = rows! {
    "smp-control" "/smssmp/" ASK MEDIUM WindowsAuth NOBODY Strip
        "Task sequences request the location of a user state here; the backend authenticates the connection. The states themselves are transferred by SMB, not through sitegate.";
};

pub(super) const REPORTING_SERVICES_POINT: &[PresetRow] = rows! {
    "rsp-server" "/reportserver/" MANAGE REPORT WindowsAuth NOBODY Strip
        "Reporting Services authenticates the connection, and decides who sees which report.";
    "rsp-portal" "/reports/" MANAGE REPORT WindowsAuth NOBODY Strip
        "The web portal authenticates the connection, and decides who sees which report.";
};

pub(super) const SITE_SERVER: &[PresetRow] = rows! {
    "site-join" "/sitegate/site/v1/join" POST SMALL Anonymous NOBODY Strip
        "A gateway that joins authenticates by the secret in its join token.";
    "site-bundle" "/sitegate/site/v1/bundle" READ NO_BODY Anonymous NOBODY Strip
        "Gateways wait here for the next bundle; the site server authenticates them by their certificates.";
    "site-held" "/sitegate/site/v1/held" POST BUNDLE Anonymous NOBODY Strip
        "After a restore gateways upload the bundle that they have; the site server authenticates them by their certificates.";
    "site-certificate" "/sitegate/site/v1/certificate" POST SMALL Anonymous NOBODY Strip
        "Gateways request certificates here; the site server authenticates them by their certificates.";
    "site-identity" "/sitegate/site/v1/identity" POST SMALL Anonymous NOBODY Strip
        "A gateway announces its next certificate here, and authenticates by the present one.";
    "site-token-service" "/sitegate/site/v1/token-service/" ASK SMALL Anonymous NOBODY Forward
        "Requests of clients to the token service, from a gateway without a store; credentials are forwarded.";
};
