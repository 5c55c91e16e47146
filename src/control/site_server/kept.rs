//! What a gateway keeps of its site server: the bundle in force, who may sign the next one, and by
//! what the gateway itself is known.
//!
//! Everything is replaced whole. The trust is written before the bundle, so that a cut between the
//! two leaves a bundle that is refused, never an older one that is taken.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cert::{Facts, request};
use crate::clock::second;
use crate::config::Following;
use crate::secret::{Exposure, private_dir, read_bounded, write_private, write_public};
use crate::tls::x5t_s256;
use crate::token::{BUNDLE_BYTES_MAX, Bundle, BundleKeys, BundleRefusal, BundleTrust};

const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The folder of what the site server tells.
#[derive(Clone, Debug)]
pub struct Kept {
    state: PathBuf,
    dir: PathBuf,
}

/// Who may sign the next bundle, and below which number none is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The site's code.
    pub site: String,
    /// The highest version that was in force.
    pub version: u64,
    /// The keys, as JWKs.
    pub keys: Vec<Value>,
    /// Where the site's servers are.
    pub servers: Vec<String>,
    /// The site's roots, PEM.
    pub roots: String,
}

/// By what the gateway is known.
pub struct Identity {
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it should be replaced.
    pub renewal: Timestamp,
}

impl Identity {
    /// The certificate's SHA-256, as RFC 8705 has it.
    pub fn thumbprint(&self) -> String {
        self.chain.first().map(|der| x5t_s256(der)).unwrap_or_default()
    }
}

impl Kept {
    /// The folder of a state directory.
    pub fn new(state: &Path) -> Self {
        Kept { state: state.to_owned(), dir: Following::folder(state) }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a bundle is put that was carried here.
    pub fn incoming(&self) -> PathBuf {
        self.dir.join("incoming.jws")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Make the folder.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn prepare(&self) -> io::Result<()> {
        private_dir(&self.dir)
    }

    /// Who may sign the next bundle; `None` before the gateway has joined.
    pub fn trust(&self) -> Option<Trust> {
        let (bytes, _) = read_bounded(&self.file("trust.json"), FILE_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The bundle that was in force last, whatever its time.
    ///
    /// # Errors
    /// [`BundleRefusal`] if it is none that was taken here; `None` if there is none.
    pub fn bundle(&self, trust: &Trust) -> Option<Result<Bundle, BundleRefusal>> {
        let (bytes, _) = read_bounded(&self.file("bundle.jws"), BUNDLE_BYTES_MAX as u64).ok()?;
        let keys = BundleKeys::of(&trust.keys);
        let judged = BundleTrust { site: &trust.site, keys: &keys, version: trust.version };
        Some(std::str::from_utf8(&bytes).map_err(|_| BundleRefusal::Malformed).and_then(|text| {
            let bundle = Bundle::open_kept(text, &judged)?;
            match bundle.version < trust.version {
                true => Err(BundleRefusal::Older),
                false => Ok(bundle),
            }
        }))
    }

    /// Put a bundle in force: what it says, as files that are watched.
    ///
    /// # Errors
    /// What the file system answers; the one before stays in force.
    pub fn keep(&self, bundle: &Bundle, text: &str) -> io::Result<Trust> {
        let trust = Trust {
            site: bundle.site.clone(),
            version: bundle.version,
            keys: bundle.bundle_keys.clone(),
            servers: bundle.servers.clone(),
            roots: bundle.roots.clone(),
        };
        self.prepare()?;
        let before = self.trust();
        if before.as_ref() != Some(&trust) {
            write_public(&self.file("trust.json"), &serde_json::to_vec_pretty(&trust)?)?;
        }
        write_public(&self.file("bundle.jws"), text.as_bytes())?;
        let keys = bundle.token_keys.to_string();
        replace(&Following::token_keys(&self.state), keys.as_bytes())?;
        replace(&self.file("roots.pem"), bundle.roots.as_bytes())?;
        Ok(trust)
    }

    /// The site's roots, PEM, as they were told last.
    pub fn roots(&self) -> Option<String> {
        let (bytes, _) = read_bounded(&self.file("roots.pem"), FILE_BYTES_MAX).ok()?;
        std::str::from_utf8(&bytes).ok().map(str::to_owned)
    }

    /// The identity that is in use; `None` before the first.
    ///
    /// # Errors
    /// What is wrong with its files.
    pub fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        let (certificate, _) =
            match read_bounded(&self.file(&format!("{name}.crt")), FILE_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                read => read?,
            };
        let (key, exposure) = read_bounded(&self.file(&format!("{name}.key")), FILE_BYTES_MAX)?;
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if exposure == Exposure::Everyone {
            return Err(invalid("the gateway's key is readable by everyone: chmod 600"));
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| invalid("the gateway's certificate is no PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| invalid("the gateway's key is no PEM"))?;
        let facts = chain.first().and_then(|der| Facts::of(der).ok());
        let renewal = facts.map_or(second(0), |facts| facts.renewal());
        Ok(Some(Identity { chain, key, renewal }))
    }

    /// Make an identity under that name.
    ///
    /// # Errors
    /// What the file system or the cryptography answers.
    pub fn make_identity(&self, name: &str, gateway: &str, now: Timestamp) -> io::Result<()> {
        self.prepare()?;
        let pair = request::identity(gateway, now).map_err(io::Error::other)?;
        write_private(&self.file(&format!("{name}.key")), pair.key.as_bytes())?;
        write_public(&self.file(&format!("{name}.crt")), pair.certificate.as_bytes())
    }

    /// Use the identity of that name from now on.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn adopt_identity(&self, name: &str) -> io::Result<()> {
        // Certificate last: a cut leaves a pair that does not match, and then the next is still
        // there to be adopted again.
        let (key, _) = read_bounded(&self.file(&format!("{name}.key")), FILE_BYTES_MAX)?;
        let (certificate, _) = read_bounded(&self.file(&format!("{name}.crt")), FILE_BYTES_MAX)?;
        write_private(&self.file("identity.key"), &key)?;
        write_public(&self.file("identity.crt"), &certificate)?;
        let _ = std::fs::remove_file(self.file(&format!("{name}.crt")));
        let _ = std::fs::remove_file(self.file(&format!("{name}.key")));
        Ok(())
    }
}

/// Write a file unless it holds just that: whoever watches it need not look.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match read_bounded(path, FILE_BYTES_MAX) {
        Ok((held, _)) if **held == *bytes => Ok(()),
        _ => write_public(path, bytes),
    }
}
