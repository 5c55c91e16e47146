//! Resolves `[site]`, `[admin]`, `[metrics]` and `[log]`.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use super::ResolveScope;
use super::certificates::secret_source;
use crate::config::code::ConfigCode;
use crate::config::error::ConfigError;
use crate::config::file::{
    AccessFormatFile, AuthorityKeyFile, CertificatesFile, ListenFile, LogFile, LogFormatFile,
    SiteFile, SiteKindFile,
};
use crate::config::resolved::{
    AccessFormat, AuthorityKey, Config, LogFormat, LogSink, Logging, SiteConfig, SiteKind,
};
use crate::config::spanned::Spanned;
use crate::secret::read_bounded;
use crate::token::{BLOCKLIST_BYTES_MAX, Blocklist};

/// The default state directory.
pub(in crate::config) const STATE: &str = "/var/lib/sitegate";

pub(super) fn resolve(
    file: SiteFile,
    section: Option<Range<usize>>,
    scope: &mut ResolveScope<'_>,
) -> (SiteConfig, Option<Listed>) {
    let section = section.unwrap_or(0..0);
    let code = scope.required(
        file.code,
        section,
        "[site] code",
        "write the site's three characters: code = \"PS1\"",
    );
    if let Some(code) = &code {
        let text = code.get_ref();
        if text.len() != 3 || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            scope.error(code.span(), "a site code is three letters or digits");
        }
    }
    let hierarchy = file.hierarchy.and_then(|typed| match typed.get_ref().parse() {
        Ok(guid) => Some(guid),
        Err(_) => {
            scope.hinted(
                typed.span(),
                "hierarchy is not a GUID",
                "it is the part after urn:sccm:oauth2: in the site's tokens",
            );
            None
        }
    });
    let mut domains = Vec::new();
    for domain in file.domains.map(|d| d.into_inner()).unwrap_or_default() {
        match host_name(domain.get_ref()) {
            Some(name) => domains.push(name),
            None => scope.error(domain.span(), "not a domain name"),
        }
    }
    let certificates = file.certificates.map(|c| c.into_inner());
    let pki_only = certificates == Some(CertificatesFile::PkiOnly);
    let roots = file.roots.map(|typed| roots(&typed, pki_only, scope)).unwrap_or_default();
    let token_issuer = match file.token_issuer {
        Some(typed) if typed.get_ref().starts_with("urn:sccm:") => {
            scope.hinted(
                typed.span(),
                "urn:sccm: is Configuration Manager's own issuer",
                "write a URL of this site's own, or leave token_issuer out",
            );
            String::new()
        }
        Some(typed) => typed.into_inner(),
        None => String::new(),
    };
    let seal = file.seal.and_then(|typed| secret_source(&typed, "seal", scope));
    let crl_url = file.crl_url.and_then(|typed| crl_url(&typed, scope));
    let blocklist = file.blocklist.map(|typed| blocklist(&typed, scope));
    let site = SiteConfig {
        code: code.map(|c| c.into_inner()).unwrap_or_default().to_ascii_uppercase(),
        hierarchy,
        state: scope.path(&file.state.map_or_else(|| STATE.to_owned(), |s| s.into_inner())),
        domains,
        roots,
        issues_certificates: !pki_only,
        kind: match file.kind.map(|k| k.into_inner()) {
            Some(SiteKindFile::CentralAdministration) => SiteKind::CentralAdministration,
            Some(SiteKindFile::Primary) | None => SiteKind::Primary,
        },
        crl_url,
        authority_key: match file.authority_key.map(|k| k.into_inner()) {
            Some(AuthorityKeyFile::Rsa2048) => AuthorityKey::Rsa2048,
            Some(AuthorityKeyFile::P256) | None => AuthorityKey::P256,
        },
        token_issuer,
        blocklist: blocklist.as_ref().map(|list| list.path.clone()),
        seal,
    };
    (site, blocklist)
}

fn roots(
    typed: &Spanned<Vec<Spanned<String>>>,
    pki_only: bool,
    scope: &mut ResolveScope<'_>,
) -> Vec<String> {
    if pki_only {
        let message = "roots names the site's own roots, and with \"pki-only\" it has none";
        scope.coded(ConfigCode::Conflict, typed.span(), message, "take roots out");
    }
    let mut roots = Vec::new();
    for root in typed.get_ref() {
        match thumbprint(root.get_ref()) {
            Some(thumbprint) => roots.push(thumbprint),
            None => scope.hinted(
                root.span(),
                "not the SHA-256 thumbprint of a certificate",
                "64 hexadecimal digits, as 'sitegate site show' has them",
            ),
        }
    }
    roots
}

/// A SHA-256 thumbprint in any usual notation: with colons, spaces or neither.
fn thumbprint(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let whole = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| digits.to_ascii_uppercase())
}

/// The URL must be http: to fetch a CRL over TLS, a client would first have to verify another
/// certificate.
fn crl_url(typed: &Spanned<String>, scope: &mut ResolveScope<'_>) -> Option<String> {
    let text = typed.get_ref().trim_end_matches('/');
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>".contains(&b));
    match text.strip_prefix("http://") {
        Some(rest) if plain && !rest.is_empty() && !rest.starts_with(['/', ':']) => {
            Some(text.to_owned())
        }
        _ => {
            scope.hinted(
                typed.span(),
                "crl_url is not a plain http:// URL without query",
                "for example crl_url = \"http://pki.contoso.com/sms\"",
            );
            None
        }
    }
}

/// An unreadable list would leave open who is blocked: that is an error, not a warning.
fn blocklist(typed: &Spanned<String>, scope: &mut ResolveScope<'_>) -> Listed {
    let path = scope.path(typed.get_ref());
    let shown = path.display();
    let named = match read_bounded(&path, BLOCKLIST_BYTES_MAX as u64)
        .map(|(b, _)| Blocklist::parse(&b))
    {
        Ok(Ok(list)) => list.issuers().map(str::to_owned).collect(),
        Ok(Err(faults)) => {
            for fault in faults {
                let hint = "fix that line of the blocklist; docs/blocklist.md has its format";
                scope.coded(ConfigCode::File, typed.span(), format!("{shown}:{fault}"), hint);
            }
            Vec::new()
        }
        Err(error) => {
            let message = format!("the blocklist {shown} cannot be read: {error}");
            scope.coded(ConfigCode::File, typed.span(), message, "an empty file blocks nothing");
            Vec::new()
        }
    };
    Listed { path, named, span: typed.span() }
}

/// A blocklist, and the issuers that it names.
pub(super) struct Listed {
    path: PathBuf,
    named: Vec<String>,
    span: Range<usize>,
}

impl Listed {
    /// Warns of unknown issuers: a misspelled name would silently block no device.
    pub(super) fn compare(&self, issuers: &[String], scope: &mut ResolveScope<'_>) {
        for name in self.named.iter().filter(|name| !issuers.contains(name)) {
            let message = format!("the blocklist names an unknown token issuer: '{name}'");
            let hint = format!("token issuers here: {}", issuers.join(", "));
            let warning = ConfigError::at(self.span.clone(), message).code(ConfigCode::File);
            scope.errors.push(warning.hint(hint).warning());
        }
    }
}

/// A DNS name, lower case, without the trailing dot.
pub(in crate::config) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(name)
}

pub(super) fn listen(
    file: ListenFile,
    section: &str,
    default: &str,
    scope: &mut ResolveScope<'_>,
) -> SocketAddr {
    let fallback = SocketAddr::from(([127, 0, 0, 1], if section == "admin" { 9180 } else { 9181 }));
    let Some(typed) = file.listen else { return default.parse().unwrap_or(fallback) };
    match typed.get_ref().parse() {
        Ok(address) => address,
        Err(_) => {
            scope.hinted(
                typed.span(),
                format!("[{section}] listen is not an address with a port"),
                format!("for example listen = \"{default}\""),
            );
            fallback
        }
    }
}

/// The admin listener must be on a loopback address.
pub(super) fn admin_stays_at_home(
    config: &Config,
    section: Option<Range<usize>>,
    scope: &mut ResolveScope<'_>,
) {
    if !config.admin.ip().is_loopback() {
        scope.exposed(
            section.clone().unwrap_or(0..0),
            "[admin] listens beyond this machine",
            "use a loopback address; metrics and health have a listener of their own, [metrics]",
        );
    }
    let same = config.admin == config.metrics && config.admin.port() != 0;
    if same {
        let at = section.clone().unwrap_or(0..0);
        scope.conflict(at, "[admin] and [metrics] listen on one address", "write two ports");
    }
}

pub(super) fn log(file: LogFile, scope: &mut ResolveScope<'_>) -> Logging {
    let level = file.level.map_or_else(
        || "info".to_owned(),
        |l| {
            if l.get_ref().parse::<tracing_subscriber::EnvFilter>().is_err() {
                scope.hinted(
                    l.span(),
                    "level is not a log filter",
                    "write error, warn, info, debug or trace, or target=level pairs",
                );
            }
            l.into_inner()
        },
    );
    let access = match file.access.map(|a| a.into_inner()) {
        None => LogSink::Stderr,
        Some(word) if word == "off" => LogSink::Off,
        Some(word) if word == "stderr" => LogSink::Stderr,
        Some(path) => LogSink::File(scope.path(&path)),
    };
    let format = match file.format.map(|f| f.into_inner()) {
        Some(LogFormatFile::Json) => LogFormat::Json,
        Some(LogFormatFile::Text) | None => LogFormat::Text,
    };
    let access_format = match file.access_format.map(|f| f.into_inner()) {
        Some(AccessFormatFile::Json) | None => AccessFormat::Json,
        Some(AccessFormatFile::Combined) => AccessFormat::Combined,
        Some(AccessFormatFile::W3c) => AccessFormat::W3c,
    };
    let cmtrace = file.cmtrace.map(|folder| scope.path(folder.get_ref()));
    Logging { format, level, cmtrace, access_format, access }
}
