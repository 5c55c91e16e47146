//! Certificates that were issued to site systems and are still valid, without their keys: a key
//! that was stolen is blocked by its certificate, and that may have been replaced since.

use std::fs;

use jiff::Timestamp;

use super::super::files::{make_private, trouble};
use super::Authority;
use crate::cert::issuer::Pair;
use crate::cert::{Facts, Fault};
use crate::secret;

const LEN_MAX: u64 = 256 * 1024;
/// Between a site system's name, which cannot have it, and a thumbprint.
const BETWEEN: char = '~';

impl Authority {
    /// Keep the certificate. A full disk must not stop a port that could be served.
    pub(super) fn note_issued(&self, name: &str, pair: &Pair) {
        let noted = || -> Result<(), Fault> {
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

    /// Every certificate of a site system that was noted, with the name: the chain as PEM.
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

    /// Remove what has expired: nobody has to be told of it.
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
