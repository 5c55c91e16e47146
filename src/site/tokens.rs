//! The site's own token key: made at first start, kept in the state directory, used to sign and
//! published to verify.
//!
//! The private key never leaves its file and this process.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::files::{LOCK, lock};
use crate::cert::issuer;
use crate::secret::{Exposure, private_dir, read_bounded, write_private, write_public};
use crate::token::{MintError, MintRequest, SignerKind, TokenSigner, jwks};

const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The file with the hierarchy that a site has given itself.
const HIERARCHY: &str = "hierarchy";

/// Why the site has no token key.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file system refuses.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it answers.
        cause: io::Error,
    },
    /// Others may read the key.
    #[error("{path}: the token key is readable by others; chmod 600 it and make a new one")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("{path}: {cause}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: MintError,
    },
    /// The certificate could not be made.
    #[error("the token key's certificate could not be made: {0}")]
    Certificate(String),
}

/// The site as an issuer of tokens.
pub struct SiteTokens {
    signer: TokenSigner,
    hierarchy: Uuid,
    issuer: String,
}

impl SiteTokens {
    /// Open the site's token key in `state`, or make one of that kind: RS256 is what Configuration
    /// Manager's own verifiers know. `issuer` is the `iss` of its tokens;
    /// without a hierarchy the site gives itself one and keeps it.
    ///
    /// # Errors
    /// What stands in the way; the gateway serves other issuers' tokens all the same.
    pub fn open(
        state: &Path,
        (site_code, kind): (&str, SignerKind),
        hierarchy: Option<Uuid>,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Self, TokenKeyError> {
        let dir = state.join("token");
        private_dir(&dir).map_err(|cause| TokenKeyError::File { path: dir.clone(), cause })?;
        let (path, at) = (dir.join("token.key"), dir.join("token.crt"));
        // Two that start at once must not each keep half of what they make. Where all of it is
        // there, nothing has to be written: the disk may be full, or closed to writing.
        let named = hierarchy.is_some() || dir.join(HIERARCHY).exists();
        let _lock = match path.exists() && at.exists() && named {
            true => None,
            false => Some(
                lock(&dir).map_err(|cause| TokenKeyError::File { path: dir.join(LOCK), cause })?,
            ),
        };
        let key = key(&path, kind)?;
        let certificate = certificate(&at, &key, site_code, now)?;
        let signer = TokenSigner::from_pkcs8(&key, Some(&certificate))
            .map_err(|cause| TokenKeyError::Key { path, cause })?;
        let hierarchy = match hierarchy {
            Some(configured) => configured,
            None => own_hierarchy(&dir.join(HIERARCHY))?,
        };
        Ok(SiteTokens { signer, hierarchy, issuer: issuer.to_owned() })
    }

    /// The public half, as a JWKS (RFC 7517 §5).
    pub fn jwks(&self) -> String {
        jwks([&self.signer]).to_string()
    }

    /// The `iss` of the site's tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The hierarchy that the site's tokens name.
    pub fn hierarchy(&self) -> Uuid {
        self.hierarchy
    }

    /// Sign a token. `wanted` says what for; issuer and hierarchy are the site's own.
    ///
    /// # Errors
    /// What about the wish is not allowed.
    pub fn mint(&self, wanted: MintRequest<'_>, now: Timestamp) -> Result<String, MintError> {
        let request = MintRequest { issuer: &self.issuer, hierarchy: self.hierarchy, ..wanted };
        self.signer.mint(&request, now)
    }
}

fn absent<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, TokenKeyError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(TokenKeyError::File { path: path.to_owned(), cause }),
    }
}

fn key(path: &Path, kind: SignerKind) -> Result<Zeroizing<Vec<u8>>, TokenKeyError> {
    if let Some((pem, exposure)) = absent(path, read_bounded(path, FILE_BYTES_MAX))? {
        if exposure != Exposure::Owner {
            return Err(TokenKeyError::Exposed { path: path.to_owned() });
        }
        let der = rustls_pki_types::pem::PemObject::from_pem_slice(&pem);
        let der: rustls_pki_types::PrivatePkcs8KeyDer<'_> =
            der.map_err(|_| TokenKeyError::Key { path: path.to_owned(), cause: MintError::Key })?;
        return Ok(Zeroizing::new(der.secret_pkcs8_der().to_vec()));
    }
    let made = |cause| TokenKeyError::Key { path: path.to_owned(), cause };
    let der = TokenSigner::generate(kind).map_err(made)?;
    let pem = Zeroizing::new(issuer::pem("PRIVATE KEY", &der));
    write_private(path, pem.as_bytes())
        .map_err(|cause| TokenKeyError::File { path: path.to_owned(), cause })?;
    Ok(der)
}

/// The certificate is there for its thumbprint alone, by which Configuration Manager's verifiers
/// find a key: who trusts the key trusts it by name, not by a chain.
fn certificate(
    path: &Path,
    key: &[u8],
    site_code: &str,
    now: Timestamp,
) -> Result<Vec<u8>, TokenKeyError> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let read = absent(path, read_bounded(path, FILE_BYTES_MAX))?;
    if let Some(der) = read.and_then(|(pem, _)| CertificateDer::from_pem_slice(&pem).ok()) {
        return Ok(der.to_vec());
    }
    let der = issuer::token_certificate(key, site_code, now)
        .map_err(|fault| TokenKeyError::Certificate(fault.to_string()))?;
    write_public(path, issuer::pem("CERTIFICATE", &der).as_bytes())
        .map_err(|cause| TokenKeyError::File { path: path.to_owned(), cause })?;
    Ok(der)
}

fn own_hierarchy(path: &Path) -> Result<Uuid, TokenKeyError> {
    let read = absent(path, read_bounded(path, FILE_BYTES_MAX))?;
    let text = read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned());
    if let Some(found) = text.and_then(|text| text.parse().ok()) {
        return Ok(found);
    }
    let made = Uuid::new_v4();
    write_public(path, format!("{made}\n").as_bytes())
        .map_err(|cause| TokenKeyError::File { path: path.to_owned(), cause })?;
    Ok(made)
}
