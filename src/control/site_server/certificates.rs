//! Site-issued certificates from the site server: requested when due, and written where the
//! certificate path finds them.
//!
//! The key is generated here and never leaves the gateway. The existing certificate stays in use
//! until a better one arrives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

use super::link::{Link, LinkError};
use crate::cert::issuer::{BACKDATED, CertAlgorithm};
use crate::cert::{Anchors, Credential, Expectation, Source, faults, request};
use crate::config::Following;
use crate::secret::{private_dir, read_bounded, write_private, write_public};
use crate::site::server::{CertificateAnswer, CertificateRequest};
use crate::token::BundleSettings;

const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A site system that needs a site-issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOrder {
    /// Its name.
    pub site_system: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Whether to generate an RSA key instead of a P-256 key.
    pub rsa: bool,
}

/// Why a certificate was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The request to the site server failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A file could not be written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The key or the received certificate is unusable.
    #[error("{0}")]
    Unfit(String),
}

/// Whether a site system must request a certificate: it has none from the site's current root, it
/// is blocked, it is for other hosts, or two thirds of its lifetime are over. `late` is a delay for
/// this gateway in seconds, so that not all gateways renew at once.
pub fn is_due(
    state: &Path,
    wanted: &CertificateOrder,
    bundle: &BundleSettings,
    provider: &CryptoProvider,
    late: i64,
    now: Timestamp,
) -> bool {
    let dir = Following::certificate(state, &wanted.site_system);
    let Ok((pem, _)) = read_bounded(&dir.join(Following::CERTIFICATE_FILE), FILE_BYTES_MAX) else {
        return true;
    };
    let Ok(held) = Credential::parse(&pem, None, Source::SiteIssued, provider) else {
        return true;
    };
    let (Some(hosts), Some(anchors)) = (names(&wanted.hosts), present_root(&bundle.roots)) else {
        return false;
    };
    let expected = Expectation { hosts: &hosts, anchors: &anchors, provider };
    let facts = held.facts();
    let others = facts.dns.len() + facts.ips.len() != wanted.hosts.len();
    let issued = facts.not_before.as_second().saturating_add(BACKDATED);
    others
        || issued < bundle.certificates_from
        || bundle.revoked.contains(&facts.sha256)
        || now.as_second() >= facts.renewal().as_second().saturating_add(late)
        || !faults(&held, &expected, now).is_empty()
}

/// Requests a certificate, and writes it if it is fit.
///
/// # Errors
/// Why it was not obtained; the existing certificate stays in use.
pub async fn renew(
    state: &Path,
    wanted: &CertificateOrder,
    link: &mut Link,
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
) -> Result<(), CertificateError> {
    let unfit = |why: &dyn std::fmt::Display| CertificateError::Unfit(why.to_string());
    let algorithm = if wanted.rsa { CertAlgorithm::Rsa2048 } else { CertAlgorithm::P256 };
    let (request, key) = request::request(algorithm).map_err(|fault| unfit(&fault))?;
    let question = CertificateRequest {
        site_system: wanted.site_system.clone(),
        hosts: wanted.hosts.clone(),
        request,
    };
    let answer: CertificateAnswer = link.ask("certificate", &question).await?;
    let parsed = Credential::parse(
        answer.chain.as_bytes(),
        Some(key.as_bytes()),
        Source::SiteIssued,
        provider,
    );
    let credential = parsed.map_err(|fault| unfit(&fault))?;
    let hosts = names(&wanted.hosts).ok_or_else(|| unfit(&"a host is not a DNS name"))?;
    let anchors = Anchors::from_pem(answer.roots.as_bytes()).map_err(|fault| unfit(&fault))?;
    let expected = Expectation { hosts: &hosts, anchors: &anchors, provider };
    if let Some(fault) = faults(&credential, &expected, now).into_iter().next() {
        return Err(unfit(&fault));
    }
    let dir = Following::certificate(state, &wanted.site_system);
    let failed = |name: &str| {
        let path = dir.join(name);
        move |error| CertificateError::File(path, error)
    };
    private_dir(&dir).map_err(failed(""))?;
    write_public(&dir.join("ca.crt"), answer.roots.as_bytes()).map_err(failed("ca.crt"))?;
    // In one file, so that no crash leaves a key with another's certificate.
    let pem = Zeroizing::new(format!("{}{}", answer.chain, *key));
    let name = Following::CERTIFICATE_FILE;
    write_private(&dir.join(name), pem.as_bytes()).map_err(failed(name))
}

/// Updates the roots beside each certificate from the bundle: during a rollover it holds both.
pub fn keep_roots(
    state: &Path,
    wanted: &CertificateOrder,
    bundle: &BundleSettings,
) -> io::Result<()> {
    let dir = Following::certificate(state, &wanted.site_system);
    let path = dir.join("ca.crt");
    match read_bounded(&path, FILE_BYTES_MAX) {
        Ok((held, _)) if **held != *bundle.roots.as_bytes() && !bundle.roots.is_empty() => {
            write_public(&path, bundle.roots.as_bytes())
        }
        _ => Ok(()),
    }
}

fn names(hosts: &[String]) -> Option<Vec<ServerName<'static>>> {
    hosts.iter().map(|host| ServerName::try_from(host.clone()).ok()).collect()
}

/// The first of the roots, which issues.
fn present_root(roots: &str) -> Option<Anchors> {
    let first = crate::pem::certificates(roots.as_bytes()).ok()?.into_iter().next()?;
    Some(Anchors::lenient([&first])).filter(|anchors| !anchors.is_empty())
}
