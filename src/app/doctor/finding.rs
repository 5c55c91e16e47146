//! The doctor's findings: a closed list. Each row is an id in the output and a row in
//! docs/doctor.md.

use serde::Serialize;

/// How severe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Clients are refused, or an unauthorized client gets in.
    Error,
    /// It works, but not for every client or not for long.
    Warning,
    /// For information.
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
        /// A possible finding of the doctor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Ailment { $($(#[doc = $doc])+ $variant,)+ }

        impl Ailment {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Ailment] = &[$(Ailment::$variant,)+];

            /// `area.reason`.
            pub const fn code(self) -> &'static str { match self { $(Ailment::$variant => $code,)+ } }

            /// How severe it is.
            pub const fn severity(self) -> Severity {
                match self { $(Ailment::$variant => Severity::$severity,)+ }
            }

            /// Its meaning, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(Ailment::$variant => $title,)+ } }

            /// How to fix it, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(Ailment::$variant => $hint,)+ } }
        }
    };
}

ailments! {
    /// A fault that `check` reports.
    CertificateUnfit "doctor.certificate" Error
        "A certificate, a CRL or a root that the configuration names cannot be used."
        "The evidence names the file and a code; sitegate explain CODE describes it.";
    /// Early enough for a renewal without haste.
    CertificateEnds "doctor.certificate_ends" Warning
        "The PKI certificate that is served expires within two weeks."
        "Renew it, and write certificate and key into the folder; sitegate serves them without a restart.";
    /// The clients or servers that trust it need its successor first.
    AuthorityEnds "doctor.authority_ends" Warning
        "A certificate authority in client_ca, backend_ca or key_ca expires within 30 days."
        "Add its successor to the file; both are trusted while both are valid.";
    /// Windows 8.1 and Server 2012 R2 share only ECDHE_ECDSA suites with current TLS libraries.
    OldWindows "doctor.old_windows" Note
        "The certificate has an RSA key: Windows 8.1, Server 2012 R2 and older cannot connect."
        "If you have such clients, use a certificate with a P-256 key; other clients are not affected.";
    /// A fault that `check` reports.
    IssuerFiles "doctor.issuer_files" Error
        "The keys of a token issuer cannot be used."
        "Download the issuer's keys again; the evidence names the file.";
    /// A fault that `check` reports.
    SiteFiles "doctor.site" Error
        "The site's authority, keys, store or bundle cannot be used."
        "The evidence says which; see docs/site-server.md and docs/store.md.";
    /// Connects to PostgreSQL as a start would.
    StoreFails "doctor.store" Error
        "The site's PostgreSQL database cannot be used."
        "The evidence has the cause and the fix; docs/store.md lists every code.";
    /// A full disk stores no tokens, blocks or log lines.
    SpaceShort "doctor.space" Warning
        "Little space is left on a file system that sitegate writes to."
        "Free disk space: on a full disk no client can register, no block is stored, and log lines are dropped.";
    /// Anyone with the key can impersonate the site.
    KeyExposed "doctor.key_exposed" Error
        "Users other than its owner can read a private key or a secret."
        "chmod 600 the file, and replace the key or secret if other people had access.";
    /// Such file systems deliver no events.
    NotWatchable "doctor.not_watchable" Note
        "A watched folder is on a file system that may not report changes."
        "sitegate polls it and finds changes within 30 seconds; use a local file system if that is too slow.";
    /// Each folder takes a watch.
    WatchLimit "doctor.watch_limit" Warning
        "The inotify limits of this machine are low, and other processes share them."
        "Raise fs.inotify.max_user_instances to 128 and fs.inotify.max_user_watches to 8192 or more.";
    /// Two for each connection.
    DescriptorLimit "doctor.descriptor_limit" Warning
        "The process may open fewer files than limits.connections needs."
        "Set LimitNOFILE of the unit to more than twice limits.connections, or lower that.";
    /// Not a fault.
    NotRunning "doctor.not_running" Note
        "No sitegate runs with this configuration, so what it serves was not checked."
        "Start it, and run sitegate doctor again.";
    /// The most frequent reason why the process does not start.
    PortTaken "doctor.port_taken" Error
        "Another process listens on the address of a site system."
        "Stop it or have it listen elsewhere; most often it is a web server's own binding.";
    /// Tested as a client.
    HandshakeFailed "doctor.handshake" Error
        "The TLS handshake on a listening address fails."
        "sitegate status says whether a certificate is served, and if not, why.";
    /// The files and the process disagree.
    OtherCertificate "doctor.other_certificate" Error
        "The certificate that is served is not the one that the files choose."
        "sitegate status says why; look for another process, an older configuration, or a proxy in between.";
    /// Nothing listens there.
    BackendUnreachable "doctor.backend_unreachable" Error
        "A backend cannot be reached."
        "Check that it runs and listens at the configured address.";
    /// Failures that the running gateway has recorded.
    BackendFails "doctor.backend_fails" Error
        "Requests of clients fail at a backend."
        "The evidence says why and since when; sitegate status has the details.";
    /// RFC 9110 §4.2.2.
    BackendCertificate "doctor.backend_certificate" Error
        "A backend's certificate is not trusted."
        "Compare it with backend_ca and backend_name.";
    /// RFC 9110 §15.5.2.
    BackendAccount "doctor.backend_account" Error
        "A backend rejects the account of backend_auth."
        "Compare user name and password with the web server's, and whether the account is locked or its password has expired.";
    /// Something else listens there.
    BackendNotHttp "doctor.backend_not_http" Error
        "The server at a backend's address does not speak HTTP, or does not respond in time."
        "Compare the address and its scheme with the web server's bindings.";
    /// Tokens and certificates depend on the time.
    ClockBackend "doctor.clock_backend" Warning
        "The clocks of this machine and of a backend differ by more than two minutes."
        "Synchronize both with the same time source: timedatectl.";
    /// The role is not installed there.
    BackendRole "doctor.backend_role" Error
        "A backend does not know the paths of its role."
        "Is the role installed there, and is backend its own address? A role may have a backend of its own (role_backend).";
    /// WebDAV Publishing and request filtering block verbs.
    BackendVerb "doctor.backend_verb" Error
        "A backend refuses an HTTP method that clients need."
        "Allow it in the web server's request filtering, and remove WebDAV Publishing.";
    /// BITS requests ranges.
    BackendRanges "doctor.backend_ranges" Warning
        "A backend answers a range request with the whole file."
        "Look for a filter or proxy that changes responses: interrupted downloads restart from the beginning.";
    /// There is no authentication to pass on.
    BackendWindowsAuth "doctor.backend_windows_auth" Warning
        "windows_auth is on, and the backend offers no Windows authentication."
        "Enable Windows authentication for the namespace in the web server, or set windows_auth = false.";
    /// Clients with direct access to the backend need no token.
    ContentAnonymous "doctor.content_anonymous" Warning
        "The distribution point serves content anonymously to every client that connects to it directly."
        "Allow only sitegate to reach it (firewall), or turn off anonymous connections on the distribution point.";
    /// It requires client certificates or TLS.
    BackendForbids "doctor.backend_forbids" Error
        "A backend refuses plain HTTP: it is set to HTTPS, or requires client certificates."
        "Set the role to HTTP (with enhanced HTTP), or make backend https.";
    /// SSLState in the list of management points.
    HttpsMode "doctor.https_mode" Error
        "The management point is in HTTPS mode: it tells clients to use certificates."
        "Set it to HTTP in the console (Communication security, enhanced HTTP).";
    /// New keys would not arrive.
    IssuerUnreachable "doctor.issuer_unreachable" Error
        "The keys of a token issuer cannot be fetched."
        "The evidence says why: name resolution, a firewall, private_hosts, key_ca or key_hosts. Keys that were fetched before stay in use.";
    /// Tokens are not valid yet, or no longer.
    ClockIssuer "doctor.clock_issuer" Warning
        "The clocks of this machine and of a token issuer differ by more than two minutes."
        "Set this machine's clock: timedatectl. leeway in [[token_issuer]] allows for five minutes.";
    /// Blocks still arrive; tokens and certificates depend on the time.
    ClockSiteServer "doctor.clock_site_server" Warning
        "The clocks of this machine and of the site server differ by more than a minute."
        "Synchronize both with the same time source: timedatectl. Blocks still arrive; the lifetimes of tokens are checked by this clock.";
    /// Blocks do not arrive.
    SiteServerAway "doctor.site_server" Error
        "This gateway does not reach its site server: new blocks do not arrive here."
        "The evidence says why; docs/runbook.md explains each reason.";
}

/// A finding.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Its kind.
    pub(crate) ailment: Ailment,
    /// The site system, issuer or file.
    pub(crate) about: String,
    /// The evidence.
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
