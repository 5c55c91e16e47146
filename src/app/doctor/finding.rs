//! What the doctor can find: a closed list. One row is the id in output and the row in
//! docs/doctor.md.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Clients are turned away, or somebody gets in who should not.
    Error,
    /// It works, and will not for everyone or for long.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// The word in output and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

macro_rules! ailments {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $severity:ident $title:literal $hint:literal;)+) => {
        /// What the doctor can find.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Ailment { $($(#[doc = $doc])+ $variant,)+ }

        impl Ailment {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Ailment] = &[$(Ailment::$variant,)+];

            /// `room.reason`.
            pub const fn code(self) -> &'static str { match self { $(Ailment::$variant => $code,)+ } }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Ailment::$variant => Severity::$severity,)+ }
            }

            /// What it means, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(Ailment::$variant => $title,)+ } }

            /// How to mend it, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(Ailment::$variant => $hint,)+ } }
        }
    };
}

ailments! {
    /// What `check` calls wrong.
    CertificateUnfit "doctor.certificate" Error
        "A certificate, a list of revoked ones or a root that the configuration names cannot be used."
        "The evidence names the file and a code; sitegate explain tells more of it.";
    /// Sooner than anyone should have to hurry.
    CertificateEnds "doctor.certificate_ends" Warning
        "The PKI certificate that is served ends within two weeks."
        "Have it renewed, and write the new pair into the folder; it goes live by itself.";
    /// Whoever trusts it has to get its successor first.
    AuthorityEnds "doctor.authority_ends" Warning
        "An authority in client_ca, backend_ca or key_ca ends within 30 days."
        "Put its successor into the file as well; both are trusted while both are valid.";
    /// Windows 8.1 and Server 2012 R2 share ECDHE_ECDSA suites alone with TLS libraries of today.
    OldWindows "doctor.old_windows" Note
        "The certificate has an RSA key: Windows 8.1, Server 2012 R2 and older cannot connect."
        "If you have such clients, use a certificate with a P-256 key; others do not notice.";
    /// What `check` calls wrong.
    IssuerFiles "doctor.issuer_files" Error
        "The keys of a token issuer cannot be used."
        "Save the issuer's keys anew; the evidence names the file.";
    /// What `check` calls wrong.
    SiteFiles "doctor.site" Error
        "What the site keeps, or has from its site server, cannot be used."
        "The evidence says what; docs/site-server.md and docs/store.md tell how it should be.";
    /// Asked of PostgreSQL, as a start would.
    StoreFails "doctor.store" Error
        "The site's PostgreSQL database cannot be used."
        "The evidence says why and how to mend it; docs/store.md has every code.";
    /// What is full takes no tokens, blocks or lines of a log.
    SpaceShort "doctor.space" Warning
        "Little space is left on a file system that sitegate writes to."
        "Make room: on a full disk nobody is registered, nothing is blocked, and lines of the log are dropped.";
    /// Whoever reads a key can be the site.
    KeyExposed "doctor.key_exposed" Error
        "Others than its owner can read a private key or a secret."
        "chmod 600 the file, and replace what is in it if strangers had access.";
    /// No events come from there.
    NotWatchable "doctor.not_watchable" Note
        "A watched folder is on a file system that may tell of no changes."
        "Changes there are found by looking, within 30 seconds; use a local file system if that is too long.";
    /// Each folder takes a watch.
    WatchLimit "doctor.watch_limit" Warning
        "The system allows few watches of files, and others may use them up."
        "Raise fs.inotify.max_user_instances to 128 and fs.inotify.max_user_watches to 8192 or more.";
    /// Two for each connection.
    DescriptorLimit "doctor.descriptor_limit" Warning
        "The process may open fewer files than limits.connections needs."
        "Set LimitNOFILE of the unit to more than twice limits.connections, or lower that.";
    /// Not a fault.
    NotRunning "doctor.not_running" Note
        "No sitegate runs with this configuration, so what it serves was not looked at."
        "Start it, and ask again.";
    /// The most frequent reason why it does not start.
    PortTaken "doctor.port_taken" Error
        "Another process listens on the address of a site system."
        "Stop it or have it listen elsewhere; on Windows-like hosts it is most often the web server's own binding.";
    /// Seen with the eyes of a client.
    HandshakeFailed "doctor.handshake" Error
        "The listening address does not shake hands."
        "sitegate status says whether a certificate is served, and why not.";
    /// Files and process disagree.
    OtherCertificate "doctor.other_certificate" Error
        "The certificate that is served is not the one that the files choose."
        "sitegate status says why; is it another process, an older configuration, or a proxy in between?";
    /// Nothing there.
    BackendUnreachable "doctor.backend_unreachable" Error
        "A backend cannot be reached."
        "Check that it runs and listens at the configured address.";
    /// What the running gateway has found.
    BackendFails "doctor.backend_fails" Error
        "Requests of clients fail at a backend."
        "The evidence says why and since when; sitegate status tells more of it.";
    /// RFC 9110 §4.2.2.
    BackendCertificate "doctor.backend_certificate" Error
        "A backend's certificate is not one that is trusted."
        "Compare it with backend_ca and backend_name.";
    /// RFC 9110 §15.5.2.
    BackendAccount "doctor.backend_account" Error
        "A backend does not take the account of backend_auth."
        "Compare user name and password with the web server's, and whether the account is locked or its password has expired.";
    /// Something else listens there.
    BackendNotHttp "doctor.backend_not_http" Error
        "What listens at a backend's address does not speak HTTP, or not in time."
        "Compare the address and its scheme with the web server's bindings.";
    /// Tokens and certificates go by time.
    ClockBackend "doctor.clock_backend" Warning
        "The clocks of this machine and of a backend differ by more than two minutes."
        "Have both follow the same time source: timedatectl.";
    /// The role is not installed there.
    BackendRole "doctor.backend_role" Error
        "A backend does not know the paths of its role."
        "Is the role installed there, and is backend its own address? A role may have a backend of its own (role_backend).";
    /// WebDAV Publishing and request filtering take verbs away.
    BackendVerb "doctor.backend_verb" Error
        "A backend refuses a verb that clients need."
        "Allow it in the web server's request filtering, and remove WebDAV Publishing.";
    /// BITS asks for ranges.
    BackendRanges "doctor.backend_ranges" Warning
        "A backend answers a request for a part of a file with all of it."
        "Look for a filter or proxy that changes answers: downloads that break begin anew.";
    /// There is nothing to pass on.
    BackendWindowsAuth "doctor.backend_windows_auth" Warning
        "windows_auth is on, and the backend offers no Windows authentication."
        "Switch Windows authentication on for the namespace in the web server, or windows_auth off.";
    /// Whoever reaches the backend needs no token.
    ContentAnonymous "doctor.content_anonymous" Warning
        "The distribution point gives content to everyone who reaches it directly."
        "Have a firewall let only sitegate reach it, or do not allow anonymous connections there.";
    /// It asks for certificates, or for TLS.
    BackendForbids "doctor.backend_forbids" Error
        "A backend refuses plain requests: it is set to HTTPS, or wants client certificates."
        "Set the role to HTTP (with enhanced HTTP), or make backend https.";
    /// SSLState in the list of management points.
    HttpsMode "doctor.https_mode" Error
        "The management point is in HTTPS mode: it tells clients to use certificates."
        "Set it to HTTP in the console (Communication security, enhanced HTTP).";
    /// New keys would not be heard of.
    IssuerUnreachable "doctor.issuer_unreachable" Error
        "The keys of a token issuer cannot be fetched."
        "The evidence says why: name resolution, a firewall, private_hosts, key_ca or key_hosts. Keys that are here already go on.";
    /// Tokens are not valid yet, or no longer.
    ClockIssuer "doctor.clock_issuer" Warning
        "The clocks of this machine and of a token issuer differ by more than two minutes."
        "Set this machine's clock: timedatectl. leeway in [[token_issuer]] allows for five minutes.";
    /// Blocks arrive all the same; tokens and certificates go by the time.
    ClockSiteServer "doctor.clock_site_server" Warning
        "The clocks of this machine and of the site server differ by more than a minute."
        "Have both follow the same time source: timedatectl. Blocks arrive all the same, tokens are judged by the time.";
    /// Blocks do not arrive.
    SiteServerAway "doctor.site_server" Error
        "This gateway does not hear of its site server: new blocks are not known here."
        "The evidence says why; docs/runbook.md tells what each reason means.";
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// What.
    pub(crate) ailment: Ailment,
    /// Of which site system, issuer or file.
    pub(crate) about: String,
    /// What was seen.
    pub(crate) evidence: String,
}

impl Finding {
    pub(super) fn new(
        ailment: Ailment,
        about: impl Into<String>,
        evidence: impl Into<String>,
    ) -> Self {
        Finding { ailment, about: about.into(), evidence: evidence.into() }
    }
}
