//! Certificates issued to site systems that are still valid, without their keys. A stolen key is
//! blocked by its certificate, which may have been replaced since.

use std::fs;

use jiff::Timestamp;

use super::super::files::{make_private, trouble};
use super::Authority;
use crate::cert::issuer::Pair;
use crate::cert::{CredentialFault, Facts};
use crate::secret;

const LEN_MAX: u64 = 256 * 1024;
/// Separates the site system's name, which cannot contain it, from the thumbprint.
const BETWEEN: char = '~';

impl Authority {
    /// Stores the certificate. Failures are only logged: a full disk must not stop a port from
    /// being served.
    pub(super) fn note_issued(&self, name: &str, pair: &Pair) {
        let noted = || -> Result<(), CredentialFault> {
            let dir = self.dir.join("issued");
            make_private(&dir)?;
            let sha256 = Facts::of_pem(&pair.certificate)?.sha256;
            let path = dir.join(format!("{name}{BETWEEN}{sha256}.crt"));
            secret::write_public(&path, pair.certificate.as_bytes()).map_err(|e| trouble(&path, e))
        };
        if let Err(fault) = noted() {
            tracing::warn!(target: "sitegate::certificate", %fault,
                "issued, and it can be blocked only while it is in force");
        }
    }

    /// All stored certificates, as pairs of the site system's name and the PEM chain.
    pub(super) fn issued(&self) -> Vec<(String, String)> {
        let Ok(files) = fs::read_dir(self.dir.join("issued")) else { return Vec::new() };
        let read = |entry: fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            let (name, _) = file.strip_suffix(".crt")?.rsplit_once(BETWEEN)?;
            let (bytes, _) = secret::read_bounded(&entry.path(), LEN_MAX).ok()?;
            Some((name.to_owned(), String::from_utf8(bytes.to_vec()).ok()?))
        };
        let mut issued: Vec<_> = files.filter_map(|entry| read(entry.ok()?)).collect();
        issued.sort();
        issued
    }

    /// Removes expired certificates: they need no revocation.
    pub(super) fn forget_issued(&self, now: Timestamp) {
        for (name, chain) in self.issued() {
            let Ok(facts) = Facts::of_pem(&chain) else { continue };
            if now > facts.not_after {
                let file = format!("{name}{BETWEEN}{}.crt", facts.sha256);
                let _ = fs::remove_file(self.dir.join("issued").join(file));
            }
        }
    }
}
