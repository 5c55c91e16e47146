//! The rows of every role: namespace, methods, size, requirement, purposes, token, and the reason.
//!
//! Data alone.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::table::{Requirement, TokenHandling};
use crate::purpose::Purpose::{Client, Content, Media, Registration, TaskSequence};
use crate::purpose::Purposes;
use Requirement::{AltAuth, Anonymous, BootstrapMessage, Deny, DeviceOrUser, User, WindowsAuth};
use TokenHandling::{Forward, Strip};

/// A route, as data.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) methods: &'static [&'static str],
    pub(super) body_bytes: u64,
    pub(super) requirement: Requirement,
    pub(super) purposes: Purposes,
    pub(super) token: TokenHandling,
    pub(super) reason: &'static str,
}

/// The route whose queries are judged.
pub(super) const LOCATION: &str = "mp-location";
/// What clients ask there: which management points and sites there are, and their keys. Microsoft
/// publishes no list; these are the words of clients' logs and of the public tools.
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
/// What media ask: the ids under which unknown computers get policy.
pub(super) const MEDIA_QUERIES: &[&str] = &["MPKEYINFORMATIONMEDIA"];
/// Routes whose answer comes when there is something to say.
pub(super) const LONG_POLLS: &[&str] = &["mp-notification", "site-bundle"];
/// Routes on which everybody may send something that is kept.
pub(super) const ANONYMOUS_UPLOADS: &[&str] = &["fallback-status"];
/// An installation has a few dozen messages, and an office one address.
pub(super) const UPLOADS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);
/// Clients hold a poll for up to fifteen minutes.
pub(super) const LONG_POLL: Duration = Duration::from_secs(20 * 60);

pub(super) const READ: &[&str] = &["GET", "HEAD"];
const BROWSE: &[&str] = &["GET", "HEAD", "PROPFIND"];
const ASK: &[&str] = &["GET", "HEAD", "POST"];
const MESSAGE: &[&str] = &["CCM_POST"];
pub(super) const POST: &[&str] = &["POST"];
/// Every packet of the BITS upload protocol is sent by this verb ([MC-BUP] §2.1).
const UPLOADS: &[&str] = &["BITS_POST"];
/// Everything that the web portal of Reporting Services does.
const MANAGE: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) const NO_BODY: u64 = 0;
/// A PROPFIND, a token request, a status message.
pub(super) const SMALL: u64 = 64 << 10;
/// The largest bundle.
pub(super) const BUNDLE: u64 = 32 << 20;
/// A user's request.
const MEDIUM: u64 = 1 << 20;
/// A message; what is larger goes to the upload namespace.
const MESSAGE_BODY: u64 = 8 << 20;
/// What a client of Windows Update tells of itself in one call: all that it has installed.
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
        &[$(Row {
            name: $name, path: $path, methods: $methods, body_bytes: $body,
            requirement: $requirement, purposes: $purposes, token: $token, reason: $reason,
        },)+]
    };
}

pub(super) const MANAGEMENT_POINT: &[Row] = rows! {
    "mp-location" "/sms_mp/.sms_aut" READ NO_BODY Anonymous NOBODY Strip
        "A client must find its site before it can have a token; location is public in every mode, as far as clients are known to ask.";
    "mp-client-package" "/ccm_client/" BROWSE SMALL Anonymous NOBODY Strip
        "The client's installation files are fetched before there is a client.";
    "mp-policy" "/sms_mp/.sms_pol" READ NO_BODY DeviceOrUser POLICY Strip
        "Policy holds secrets; the backend alone would give it to anyone who can sign a header.";
    "mp-configuration-items" "/sms_mp/.sms_dcm" READ NO_BODY DeviceOrUser POLICY Strip
        "Configuration items and scripts are policy's documents.";
    "mp-token-policy" "/sms_mp_tokenauth/" READ NO_BODY DeviceOrUser POLICY Forward
        "The namespace for clients with tokens; the backend reads the token too.";
    "mp-messages" "/ccm_system/request" MESSAGE MESSAGE_BODY BootstrapMessage POLICY Strip
        "A client without a token may register and find its site here, by a small and well-formed message to one of those two endpoints that asks what such a client has to; every other message shares the path, some were exploited without any credential, and all need a token.";
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
        "Its authenticator is none that can be checked here, and it gave policy to strangers.";
    "mp-alt-auth-messages" "/ccm_system_altauth/" MESSAGE MESSAGE_BODY AltAuth NOBODY Strip
        "Boot media set their clock here, and anyone can register here without a credential.";
    "mp-windows-policy" "/sms_mp_windowsauth/" READ NO_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-messages" "/ccm_system_windowsauth/" MESSAGE MESSAGE_BODY WindowsAuth NOBODY Strip
        "The backend authenticates the connection; clients with tokens do not need it.";
    "mp-windows-user-service" "/cmuserservice_windowsauth/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The backend authenticates the connection; users with tokens do not need it.";
    "mp-bitlocker-recovery" "/sms_mp_mbam/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The recovery service of BitLocker management, which clients and its portals ask; the backend authenticates the connection, and its application wants an https backend.";
};

pub(super) const DISTRIBUTION_POINT: &[Row] = rows! {
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

pub(super) const ADMINISTRATION_SERVICE: &[Row] = rows! {
    "admin-token" "/adminservice_tokenauth/" ASK MEDIUM User CLIENTS Forward
        "Administrators and consoles with a token; the service decides what they may do.";
    "admin-windows" "/adminservice/" ASK MEDIUM WindowsAuth NOBODY Strip
        "The service authenticates the connection, and has no protection against relaying.";
};

pub(super) const SOFTWARE_UPDATE_POINT: &[Row] = rows! {
    "sup-client" "/clientwebservice/" ASK UPDATES Anonymous NOBODY Strip
        "The update agent has no token: the service gives it a cookie of its own, and what it offers is public.";
    "sup-authorization" "/simpleauthwebservice/" ASK SMALL Anonymous NOBODY Strip
        "Where the update agent gets that cookie; it names its target group and proves nothing.";
    "sup-reporting" "/reportingwebservice/" ASK UPDATES Anonymous NOBODY Strip
        "The update agent tells what became of its updates, without a token as before.";
    "sup-content" "/content/" READ NO_BODY Anonymous NOBODY Strip
        "Update files are signed by their publisher, and the agent checks that, so anyone may read them.";
    "sup-self-update" "/selfupdate/" READ NO_BODY Anonymous NOBODY Strip
        "Older agents look here for a newer agent; the files are signed.";
    "sup-inventory" "/inventory/" READ NO_BODY Anonymous NOBODY Strip
        "What agents of servers that collect inventory read, without a token as the server itself gives it out.";
    "sup-administration" "/apiremoting30/" ASK UPDATES WindowsAuth NOBODY Strip
        "Consoles administer the update service here; the backend authenticates the connection.";
    "sup-downstream" "/serversyncwebservice/" POST UPDATES Deny NOBODY Strip
        "Other update servers synchronise here, and clients never do; a route of your own opens it.";
    "sup-downstream-authorization" "/dssauthwebservice/" POST SMALL Deny NOBODY Strip
        "Other update servers synchronise here, and clients never do; a route of your own opens it.";
};

pub(super) const FALLBACK_STATUS_POINT: &[Row] = rows! {
    "fallback-status" "/sms_fsp/" POST SMALL Anonymous NOBODY Strip
        "A client that cannot get a token must be able to say so; small bodies only.";
};

pub(super) const STATE_MIGRATION_POINT: &[Row] = rows! {
    "smp-control" "/smssmp/" ASK MEDIUM WindowsAuth NOBODY Strip
        "Task sequences ask here where a state is kept; the backend authenticates the connection. The states themselves travel by SMB, which is not carried.";
};

pub(super) const REPORTING_SERVICES_POINT: &[Row] = rows! {
    "rsp-server" "/reportserver/" MANAGE REPORT WindowsAuth NOBODY Strip
        "Reporting Services authenticates the connection, and decides who sees which report.";
    "rsp-portal" "/reports/" MANAGE REPORT WindowsAuth NOBODY Strip
        "The web portal authenticates the connection, and decides who sees which report.";
};

pub(super) const SITE_SERVER: &[Row] = rows! {
    "site-join" "/sitegate/site/v1/join" POST SMALL Anonymous NOBODY Strip
        "A gateway that joins has nothing to show but the secret in its join token.";
    "site-bundle" "/sitegate/site/v1/bundle" READ NO_BODY Anonymous NOBODY Strip
        "Gateways wait here for the next bundle; the site server knows them by their certificates.";
    "site-held" "/sitegate/site/v1/held" POST BUNDLE Anonymous NOBODY Strip
        "After a restore gateways show the bundle that they have; the site server knows them by their certificates.";
    "site-certificate" "/sitegate/site/v1/certificate" POST SMALL Anonymous NOBODY Strip
        "Gateways have certificates issued; the site server knows them by their certificates.";
    "site-identity" "/sitegate/site/v1/identity" POST SMALL Anonymous NOBODY Strip
        "A gateway names the certificate that it will show next, and shows the present one.";
    "site-token-service" "/sitegate/site/v1/token-service/" ASK SMALL Anonymous NOBODY Forward
        "What clients ask the token service of a gateway without a store; credentials go through.";
};
