//! Resolves the keys of a `[[token_issuer]]`: files, a URL, or OIDC discovery.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::ResolveScope;
use crate::cert::Anchors;
use crate::config::Span;
use crate::config::code::ConfigCode;
use crate::config::file::{OneOrMany, TokenIssuerFile};
use crate::config::place::{host, url_fault};
use crate::config::resolved::{KeySource, KeyUrl};
use crate::config::spanned::Spanned;
use crate::secret::read_bounded;
use crate::token::{Issuer, IssuerKind};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// The key settings as typed.
pub(super) struct TypedKeys {
    keys: Option<Spanned<OneOrMany>>,
    key_hosts: Option<Spanned<Vec<Spanned<String>>>>,
    private_hosts: Option<Spanned<Vec<Spanned<String>>>>,
    ca: Option<Spanned<String>>,
    refresh: Option<Spanned<Span>>,
    refetch_interval: Option<Spanned<Span>>,
}

impl TypedKeys {
    pub(super) fn take(file: &mut TokenIssuerFile) -> TypedKeys {
        TypedKeys {
            keys: file.keys.take(),
            key_hosts: file.key_hosts.take(),
            private_hosts: file.private_hosts.take(),
            ca: file.key_ca.take(),
            refresh: file.key_refresh.take(),
            refetch_interval: file.key_refetch_interval.take(),
        }
    }

    /// The source of the keys.
    pub(super) fn resolve(
        self,
        issuer: &Issuer,
        section: Range<usize>,
        scope: &mut ResolveScope<'_>,
    ) -> Option<KeySource> {
        let typed = match &self.keys {
            None => return self.discovered(issuer, section, scope),
            Some(keys) => keys.get_ref().clone().into_vec(),
        };
        let at = self.keys.as_ref().map_or(section, |keys| keys.span());
        let is_url = |key: &String| key.contains("://");
        match typed.as_slice() {
            [] => {
                scope.coded(
                    ConfigCode::Missing,
                    at,
                    "keys names no file",
                    "write a file, or one URL",
                );
                None
            }
            [url] if is_url(url) => self.url(url.clone(), at, scope),
            all if all.iter().any(is_url) => {
                let hint = "one URL, or files: an issuer publishes its keys in one place";
                scope.hinted(at, "keys has a URL beside other entries", hint);
                None
            }
            files => {
                self.are_for_urls_alone(scope);
                Some(KeySource::Files(files.iter().map(|k| scope.path(k)).collect()))
            }
        }
    }

    /// OpenID Connect Discovery 1.0 §4.
    fn discovered(
        self,
        issuer: &Issuer,
        section: Range<usize>,
        scope: &mut ResolveScope<'_>,
    ) -> Option<KeySource> {
        let base = match (&issuer.kind, issuer.accepts.first()) {
            (IssuerKind::Entra { tenant }, _) => {
                format!("https://login.microsoftonline.com/{tenant}/v2.0")
            }
            (IssuerKind::Oidc(_), Some(iss)) => iss.trim_end_matches('/').to_owned(),
            _ => {
                let hint = "a file, a list of files, or an https URL: JWKS, PEM public keys or \
                            certificates";
                scope.required(None::<Spanned<()>>, section, "keys of a token issuer", hint);
                return None;
            }
        };
        self.url(format!("{base}{DISCOVERY}"), section, scope)
    }

    fn url(self, url: String, at: Range<usize>, scope: &mut ResolveScope<'_>) -> Option<KeySource> {
        if let Some(fault) = url_fault(&url) {
            let hint = "keys = \"https://…\", or a file";
            scope.hinted(at, format!("keys names {url}, which is {fault}"), hint);
            return None;
        }
        let mut hosts = |typed: Option<Spanned<Vec<Spanned<String>>>>| -> Vec<String> {
            let typed = typed.map(Spanned::into_inner).unwrap_or_default();
            let read = |one: Spanned<String>| {
                let found = host(one.get_ref());
                if found.is_none() {
                    scope.error(one.span(), "not a host name or an address");
                }
                found
            };
            typed.into_iter().filter_map(read).collect()
        };
        let (key_hosts, private_hosts) = (hosts(self.key_hosts), hosts(self.private_hosts));
        let refresh = self.refresh.map(|typed| bounded(typed, "key_refresh", scope));
        let refetch_interval = self
            .refetch_interval
            .map_or(REFETCH_INTERVAL, |typed| bounded(typed, "key_refetch_interval", scope));
        Some(KeySource::Url(KeyUrl {
            discovery: url.ends_with(DISCOVERY),
            url,
            key_hosts,
            private_hosts,
            ca: self.ca.map(|typed| ca(&typed, scope)),
            refresh,
            refetch_interval,
        }))
    }

    fn are_for_urls_alone(&self, scope: &mut ResolveScope<'_>) {
        for (key, set) in [
            ("key_hosts", self.key_hosts.as_ref().map(|t| t.span())),
            ("private_hosts", self.private_hosts.as_ref().map(|t| t.span())),
            ("key_ca", self.ca.as_ref().map(|t| t.span())),
            ("key_refresh", self.refresh.as_ref().map(|t| t.span())),
            ("key_refetch_interval", self.refetch_interval.as_ref().map(|t| t.span())),
        ] {
            if let Some(at) = set {
                let message = format!("{key} is for keys from a URL; key files are watched");
                scope.conflict(at, message, "leave it out");
            }
        }
    }
}

fn bounded(typed: Spanned<Span>, key: &str, scope: &mut ResolveScope<'_>) -> Duration {
    let time = typed.get_ref().0;
    if !(Duration::from_secs(1)..=DAY).contains(&time) {
        scope.error(typed.span(), format!("{key} must be between 1s and 1d"));
    }
    time
}

fn ca(typed: &Spanned<String>, scope: &mut ResolveScope<'_>) -> PathBuf {
    let path = scope.path(typed.get_ref());
    let told = match read_bounded(&path, CA_BYTES_MAX) {
        Err(error) => Some(error.to_string()),
        Ok((pem, _)) => match Anchors::from_pem(&pem) {
            Err(fault) => Some(fault.to_string()),
            Ok(anchors) if anchors.is_empty() => Some("it holds no certificate".to_owned()),
            Ok(_) => None,
        },
    };
    if let Some(told) = told {
        let message = format!("key_ca cannot be used: {}: {told}", path.display());
        scope.coded(ConfigCode::File, typed.span(), message, "a PEM file with the roots to trust");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn resolved(issuer: &str) -> Result<Config, String> {
        let text = format!(
            "[site]\ncode = 'PS1'\nhierarchy = '{TENANT}'\n[[site_system]]\nname = 'mp01'\n\
             listen = '0.0.0.0:443'\nhosts = ['mp01']\nbackend = 'http://127.0.0.1'\n\
             roles = ['management-point']\n[[token_issuer]]\nname = 'idp'\naudiences = ['mp']\n\
             {issuer}\n"
        );
        let base = std::path::Path::new("/nowhere");
        parse(&text, "gateway.toml", base, crate::clock::second(1_800_000_000))
            .map(|l| l.config)
            .map_err(|e| e.to_string())
    }

    fn entra(more: &str) -> String {
        format!("kind = 'entra'\ntenant = '{TENANT}'\n{more}")
    }

    fn oidc(iss: &str, more: &str) -> String {
        format!("kind = 'oidc'\nissuer = '{iss}'\nuser_claim = 'sub'\n{more}")
    }

    #[test]
    fn keys_are_discovered_where_they_are_not_named() {
        let microsoft = format!("https://login.microsoftonline.com/{TENANT}/v2.0{DISCOVERY}");
        let china = format!("https://login.partner.microsoftonline.cn/{TENANT}/v2.0{DISCOVERY}");
        for (issuer, url, discovery) in [
            (entra(""), &*microsoft, true),
            (entra("issuer = 'https://login.partner.microsoftonline.cn/x/v2.0'"), &microsoft, true),
            (entra(&format!("keys = '{china}'")), &china, true),
            (oidc("https://id.example", ""), &format!("https://id.example{DISCOVERY}"), true),
            (oidc("https://id.example/a/", ""), &format!("https://id.example/a{DISCOVERY}"), true),
            (oidc("x", "keys = 'https://id.example/keys'"), "https://id.example/keys", false),
            (
                "kind = 'site'\nkeys = ['https://id.example/keys']".to_owned(),
                "https://id.example/keys",
                false,
            ),
        ] {
            let config = resolved(&issuer).unwrap_or_else(|told| panic!("{issuer}: {told}"));
            let KeySource::Url(found) = &config.issuers[1].keys else { panic!("{issuer}") };
            assert_eq!((&*found.url, found.discovery), (url, discovery));
            assert_eq!((found.refresh, found.refetch_interval), (None, REFETCH_INTERVAL));
        }
    }

    #[test]
    fn what_cannot_be_fetched_is_an_error_with_its_line() {
        let url = "keys = 'https://id.example/keys'";
        for (issuer, told) in [
            ("kind = 'site'".to_owned(), "10:1: keys of a token issuer is missing"),
            (oidc("urn:x", ""), "10:1: keys names urn:x/.well-known"),
            (
                entra("keys = 'http://id.example/'"),
                "15:8: keys names http://id.example/, which is not an https",
            ),
            (entra("keys = 'https://u:p@id.example/'"), "is a URL with a user name"),
            (
                entra("keys = ['a.json', 'https://id.example/']"),
                "keys has a URL beside other entries",
            ),
            (entra("keys = []"), "15:8: keys names no file"),
            (
                entra("keys = 'a.json'\nprivate_hosts = ['a']"),
                "private_hosts is for keys from a URL",
            ),
            (entra("keys = 'a.json'\nkey_refresh = '1h'"), "key_refresh is for keys from a URL"),
            (entra(&format!("{url}\nkey_hosts = ['a b']")), "16:14: not a host name"),
            (entra(&format!("{url}\nkey_ca = 'none.pem'")), "key_ca cannot be used: /nowhere/none"),
            (entra(&format!("{url}\nkey_refresh = '2d'")), "key_refresh must be between 1s and 1d"),
            (
                entra(&format!("{url}\nkey_refetch_interval = '0s'")),
                "16:24: key_refetch_interval must be between 1s and 1d",
            ),
        ] {
            let found = resolved(&issuer).expect_err(&issuer);
            assert!(found.contains(told), "{issuer}: {found}");
        }
    }

    #[test]
    fn hosts_are_compared_in_one_spelling() {
        let hosts = "key_hosts = ['Keys.Example.', '[::1]']\nprivate_hosts = ['127.0.0.1']";
        let config = resolved(&entra(hosts)).unwrap();
        let KeySource::Url(found) = &config.issuers[1].keys else { panic!("no URL") };
        assert_eq!(found.key_hosts, ["keys.example", "::1"]);
        assert_eq!(found.private_hosts, ["127.0.0.1"]);
    }
}
