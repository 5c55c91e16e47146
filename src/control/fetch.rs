//! Fetches small documents over HTTPS: the only use of reqwest.
//!
//! Follows no redirect, uses no proxy, decodes no content coding, and connects only to public
//! addresses (SSRF protection) unless the operator named the host. The address that is checked is
//! the one that is connected to.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, header, redirect};
use rustls::crypto::CryptoProvider;

use super::address::not_public;
use crate::cert::Anchors;
use crate::secret::read_bounded;
use crate::tls::ClientConfigs;

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// From the name's resolution to the last byte.
const WHOLE_TIME: Duration = Duration::from_secs(10);
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// An HTTPS client with its trust anchors and address rules.
#[derive(Clone)]
pub struct Web {
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// The trusted roots, if `ca` is none.
    pub system: Arc<Anchors>,
    /// A PEM file with the roots to trust instead; read for each fetch.
    pub ca: Option<PathBuf>,
    /// Hosts whose addresses may be private.
    pub private_hosts: Vec<String>,
}

/// A fetched document.
#[derive(Debug)]
pub struct Document {
    pub(super) body: Vec<u8>,
    /// How long it is fresh, as its server declares (RFC 9111 §4.2).
    pub(super) max_age: Option<Duration>,
    /// Its `Date` header.
    pub(super) date: Option<String>,
}

/// Why a fetch failed or its document is not used: a closed list, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFault {
    /// No connection, or a broken one.
    Unreachable,
    /// The time limit was exceeded.
    Timeout,
    /// The address is not public, or keys may not come from this host.
    Address,
    /// The server's certificate is not trusted.
    Certificate,
    /// A status other than 200; redirects are not followed.
    Status,
    /// Larger than allowed.
    TooLarge,
    /// Not a valid key set or discovery document.
    Malformed,
    /// The discovery document names another issuer.
    Issuer,
}

impl FetchFault {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            FetchFault::Unreachable => "unreachable",
            FetchFault::Timeout => "timeout",
            FetchFault::Address => "address",
            FetchFault::Certificate => "certificate",
            FetchFault::Status => "status",
            FetchFault::TooLarge => "too_large",
            FetchFault::Malformed => "malformed",
            FetchFault::Issuer => "issuer",
        }
    }
}

/// A fault and its details, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// The fault.
    pub fault: FetchFault,
    /// The details, in words.
    pub detail: String,
}

impl FetchError {
    pub(super) fn new(fault: FetchFault, detail: impl Into<String>) -> Self {
        FetchError { fault, detail: detail.into() }
    }
}

/// A URL that may be fetched: https, with a host and without user information.
#[derive(Clone, Debug)]
pub(super) struct FetchUrl(Url);

impl FetchUrl {
    pub(super) fn parse(text: &str) -> Result<Self, FetchError> {
        let malformed =
            |why: &str| FetchError::new(FetchFault::Malformed, format!("{why}: {text:.200}"));
        let url = Url::parse(text).map_err(|_| malformed("not a URL"))?;
        if url.scheme() != "https" {
            return Err(malformed("not an https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("a URL with a user name"));
        }
        Ok(FetchUrl(url))
    }

    /// The host that is connected to: lower case, addresses in their canonical form.
    pub(super) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }
}

impl Web {
    /// Fetches a document of at most `len_max` bytes.
    pub(super) async fn fetch(
        &self,
        place: &FetchUrl,
        len_max: usize,
    ) -> Result<Document, FetchError> {
        // An IP address in the URL is never resolved, so the resolver does not check it.
        if let Ok(ip) = place.host().parse::<IpAddr>()
            && !self.is_named(place.host())
            && let Some(why) = not_public(ip)
        {
            let refused = FetchRefused(format!("{ip} is {why}"));
            return Err(FetchError::new(FetchFault::Address, refused.to_string()));
        }
        let client = self.client()?;
        let asked = client
            .get(place.0.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity");
        let mut answer = asked.send().await.map_err(|error| judge(&error))?;
        check_head(&answer, len_max)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| judge(&error))? {
            // Counted as it arrives: a chunked response announces no length.
            if body.len() + chunk.len() > len_max {
                return Err(too_large(len_max));
            }
            body.extend_from_slice(&chunk);
        }
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        Ok(Document { body, max_age: max_age(&answer), date })
    }

    fn is_named(&self, host: &str) -> bool {
        self.private_hosts.iter().any(|named| named.eq_ignore_ascii_case(host))
    }

    fn client(&self) -> Result<Client, FetchError> {
        let unusable = |why: String| FetchError::new(FetchFault::Certificate, why);
        let roots = match &self.ca {
            None => None,
            Some(path) => {
                let told = |why: String| unusable(format!("{}: {why}", path.display()));
                let (pem, _) = read_bounded(path, CA_BYTES_MAX).map_err(|e| told(e.to_string()))?;
                Some(Anchors::from_pem(&pem).map_err(|e| told(e.to_string()))?)
            }
        };
        let tls = ClientConfigs::new(self.provider.clone(), self.system.root_store())
            .map_err(|e| unusable(e.to_string()))?;
        let tls = Arc::unwrap_or_clone(tls.trusting(roots));
        Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .referer(false)
            .dns_resolver(Arc::new(Resolver(self.clone())))
            .connect_timeout(CONNECT_TIME)
            .timeout(WHOLE_TIME)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("sitegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| judge(&error))
    }
}

/// Resolves names to the addresses that may be connected to.
struct Resolver(Web);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let named = self.0.is_named(name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fit = fit(name.as_str(), found, named)?;
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be connected to: all addresses of a named host, only the public ones of
/// other hosts.
fn fit(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
    named: bool,
) -> Result<Vec<SocketAddr>, FetchRefused> {
    let (mut fit, mut why) = (Vec::new(), None);
    for address in found {
        match not_public(address.ip()).filter(|_| !named) {
            None => fit.push(address),
            Some(fault) => why = Some((address.ip(), fault)),
        }
    }
    match (fit.is_empty(), why) {
        (true, Some((ip, fault))) => Err(FetchRefused(format!("{name} is {ip}, which is {fault}"))),
        _ => Ok(fit),
    }
}

/// An address that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}; if that is intended, name the host in private_hosts")]
struct FetchRefused(String);

fn check_head(answer: &Response, len_max: usize) -> Result<(), FetchError> {
    let status = answer.status();
    if status.is_redirection() {
        let detail = format!("it answers {status}, and redirects are not followed");
        return Err(FetchError::new(FetchFault::Status, detail));
    }
    if status != reqwest::StatusCode::OK {
        return Err(FetchError::new(FetchFault::Status, format!("it answers {status}")));
    }
    let coding = answer.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        let detail = "its response has a content coding that was not requested";
        return Err(FetchError::new(FetchFault::Malformed, detail));
    }
    match answer.content_length() {
        Some(length) if length > len_max as u64 => Err(too_large(len_max)),
        _ => Ok(()),
    }
}

fn too_large(len_max: usize) -> FetchError {
    FetchError::new(FetchFault::TooLarge, format!("it is larger than {} KiB", len_max / 1024))
}

/// `max-age`, less the time that the response spent in caches (RFC 9111 §4.2.1 and §4.2.3).
fn max_age(answer: &Response) -> Option<Duration> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let age = text(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    fresh_for(text(header::CACHE_CONTROL)?, age)
}

fn fresh_for(cache_control: &str, age_s: u64) -> Option<Duration> {
    let mut fresh = None;
    for directive in cache_control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" if fresh.is_none() => {
                // An unreadable value counts as stale (§4.2.1).
                let value = value.trim().trim_matches('"');
                fresh = Some(value.parse::<u64>().unwrap_or(0).saturating_sub(age_s));
            }
            _ => {}
        }
    }
    fresh.map(Duration::from_secs)
}

/// Classifies an error of reqwest by its causes.
fn judge(error: &reqwest::Error) -> FetchError {
    let mut told = Vec::new();
    let mut fault = if error.is_timeout() { FetchFault::Timeout } else { FetchFault::Unreachable };
    let mut cause = error.source();
    while let Some(error) = cause {
        if of_tls(error).is_some() {
            fault = FetchFault::Certificate;
        } else if error.is::<FetchRefused>() {
            fault = FetchFault::Address;
        }
        told.push(error.to_string());
        cause = error.source();
    }
    // The last cause is the specific one; those above repeat it, or only say that something failed.
    let detail = told.pop().unwrap_or_else(|| error.to_string());
    FetchError::new(fault, detail)
}

/// The TLS error within an error, however deeply it is wrapped: the `source` of an `io::Error` is
/// not the error it wraps but that error's own source.
pub(super) fn of_tls<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| wrapped.and_then(|error| of_tls(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_url_is_https_and_names_the_host_connected_to() {
        for (text, host) in [
            ("https://Login.Example/keys", "login.example"),
            ("https://[::1]:8443/keys", "::1"),
            // Spellings of 127.0.0.1 that no check of the text would recognize.
            ("https://2130706433/keys", "127.0.0.1"),
            ("https://0x7f.1/keys", "127.0.0.1"),
            ("https://good.example\\@127.0.0.1/", "good.example"),
        ] {
            assert_eq!(
                FetchUrl::parse(text).map(|p| p.host().to_owned()),
                Ok(host.into()),
                "{text}"
            );
        }
        for bad in ["http://a.example/", "file:///etc/passwd", "https://u:p@a.example/", "keys", ""]
        {
            assert!(FetchUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_leads_to_public_addresses_alone_unless_it_is_named() {
        let all = ["10.0.0.1:0", "8.8.8.8:0", "[::ffff:127.0.0.1]:0"].map(|a| a.parse().unwrap());
        let public = vec![all[1]];
        assert_eq!(fit("a", all.into_iter(), false).unwrap(), public);
        assert_eq!(fit("a", all.into_iter(), true).unwrap(), all);
        let told = fit("a.example", all.into_iter().take(1), false).unwrap_err().to_string();
        assert!(told.contains("a.example is 10.0.0.1, which is private"), "{told}");
        assert!(told.contains("private_hosts"), "{told}");
    }

    #[test]
    fn freshness_is_max_age_less_age() {
        for (text, age, seconds) in [
            ("max-age=3600", 0, Some(3600)),
            ("public, Max-Age=\"3600\", must-revalidate", 600, Some(3000)),
            ("max-age=10, max-age=3600", 0, Some(10)),
            ("max-age=60", 100, Some(0)),
            ("max-age=x", 0, Some(0)),
            ("no-store, max-age=3600", 0, Some(0)),
            ("max-age=3600, no-cache", 0, Some(0)),
            ("s-maxage=10", 0, None),
            ("", 0, None),
        ] {
            assert_eq!(fresh_for(text, age), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
