//! The gateway's stored state of its site server: the bundle in force with the deltas that follow
//! it, the keys that may sign the next one, and the gateway's own identity.
//!
//! Files are replaced atomically, and deltas appended. Both come before the trust: after a crash in
//! between, the old trust still verifies the new documents.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cert::{Facts, request};
use crate::clock::second;
use crate::config::Following;
use crate::line_file::{append_line, whole_lines};
use crate::secret::{Exposure, private_dir, read_bounded, write_private, write_public};
use crate::tls::x5t_s256;
use crate::token::{
    BUNDLE_BYTES_MAX, BundleHead, BundleKeys, BundleRefusal, BundleSettings, BundleTrust,
    OpenedBundle,
};

const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The file of the deltas, one in each line.
const DELTAS: &str = "bundle-deltas.jws";
/// How many bytes of deltas are kept at least; after a long bundle half of its length.
const DELTA_BYTES_MIN: u64 = 1024 * 1024;

/// The folder of the site server's data.
#[derive(Clone, Debug)]
pub struct BundleFiles {
    state: PathBuf,
    dir: PathBuf,
}

/// The keys that may sign the next bundle, and the lowest version that is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTrust {
    /// The site's code.
    pub site: String,
    /// The highest version that was in force.
    pub version: u64,
    /// The keys, as JWKs.
    pub keys: Vec<Value>,
    /// The URLs of the site's servers.
    pub servers: Vec<String>,
    /// The site's roots, PEM.
    pub roots: String,
}

impl StoredTrust {
    /// What a bundle says of the next one.
    pub fn of(head: &BundleHead) -> Self {
        let BundleSettings { site, bundle_keys, servers, roots, .. } = &head.settings;
        StoredTrust {
            site: site.clone(),
            version: head.version,
            keys: bundle_keys.clone(),
            servers: servers.clone(),
            roots: roots.clone(),
        }
    }
}

/// The certificate and key with which the gateway authenticates.
pub struct OwnIdentity {
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it should be replaced.
    pub renewal: Timestamp,
}

impl OwnIdentity {
    /// The certificate's SHA-256 thumbprint, as in RFC 8705.
    pub fn thumbprint(&self) -> String {
        self.chain.first().map(|der| x5t_s256(der)).unwrap_or_default()
    }
}

impl BundleFiles {
    /// The folder within a state directory.
    pub fn new(state: &Path) -> Self {
        BundleFiles { state: state.to_owned(), dir: Following::folder(state) }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file for a bundle that the operator copies here by hand.
    pub fn incoming(&self) -> PathBuf {
        self.dir.join("incoming.jws")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates the folder.
    ///
    /// # Errors
    /// The file system's error.
    pub fn prepare(&self) -> io::Result<()> {
        private_dir(&self.dir)
    }

    /// The keys that may sign the next bundle; `None` before the gateway has joined.
    pub fn trust(&self) -> Option<StoredTrust> {
        let (bytes, _) = read_bounded(&self.file("trust.json"), FILE_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The last bundle in force, expired or not; `None` if there is none.
    ///
    /// # Errors
    /// [`BundleRefusal`] if the documents are not what was accepted here.
    pub fn bundle(&self, trust: &StoredTrust) -> Option<Result<OpenedBundle, BundleRefusal>> {
        let text = self.text()?;
        let keys = BundleKeys::of(&trust.keys);
        let judged = BundleTrust { site: &trust.site, keys: &keys, version: trust.version };
        Some(OpenedBundle::open(&text, &judged))
    }

    /// The settings of the last bundle in force, if its documents are what was accepted here. Costs
    /// less than [`BundleFiles::bundle`] where many blocks are in force.
    pub fn settings(&self, trust: &StoredTrust) -> Option<BundleSettings> {
        let (text, keys) = (self.text()?, BundleKeys::of(&trust.keys));
        BundleHead::open(&text, &keys).map(|head| head.settings)
    }

    /// The documents of the last bundle in force, one in each line: the bundle, and the deltas that
    /// follow it.
    pub fn text(&self) -> Option<String> {
        let (bytes, _) = read_bounded(&self.file("bundle.jws"), BUNDLE_BYTES_MAX as u64).ok()?;
        let mut text = std::str::from_utf8(&bytes).ok()?.trim_end().to_owned();
        let deltas = read_bounded(&self.file(DELTAS), BUNDLE_BYTES_MAX as u64);
        let deltas = deltas.map(|(bytes, _)| bytes).unwrap_or_default();
        for delta in whole_lines(&deltas) {
            text.push('\n');
            text.push_str(std::str::from_utf8(delta).ok()?);
        }
        Some(text)
    }

    /// Keeps a bundle with the deltas that follow it, one document in each line, and writes its
    /// contents to the watched files.
    ///
    /// # Errors
    /// The file system's error; the earlier bundle stays on disk.
    pub fn keep(&self, head: &BundleHead, text: &str) -> io::Result<StoredTrust> {
        let (bundle, deltas) = text.trim_end().split_once('\n').unwrap_or((text.trim_end(), ""));
        self.prepare()?;
        write_public(&self.file("bundle.jws"), bundle.as_bytes())?;
        // The deltas of before do not follow the new bundle, or are in it.
        let end = if deltas.is_empty() { "" } else { "\n" };
        write_public(&self.file(DELTAS), format!("{deltas}{end}").as_bytes())?;
        let trust = self.keep_trust(head)?;
        self.spell_out(&head.settings)?;
        Ok(trust)
    }

    /// Keeps a further delta; [`BundleFiles::keep_trust`] comes next, and if it has settings,
    /// [`BundleFiles::spell_out`].
    ///
    /// # Errors
    /// The file system's error; the state of before stays on disk.
    pub fn keep_delta(&self, delta: &str) -> io::Result<()> {
        append_line(&self.file(DELTAS), delta.as_bytes()).map(drop)
    }

    /// Whether so many deltas follow the bundle on disk that a new one should be fetched.
    pub fn has_many_deltas(&self) -> bool {
        let len = |name| std::fs::metadata(self.file(name)).map_or(0, |meta| meta.len());
        len(DELTAS) > DELTA_BYTES_MIN.max(len("bundle.jws") / 2)
    }

    /// Keeps what this state says of the next document.
    ///
    /// # Errors
    /// The file system's error; the earlier trust stays on disk, and verifies the documents.
    pub fn keep_trust(&self, head: &BundleHead) -> io::Result<StoredTrust> {
        let trust = StoredTrust::of(head);
        write_public(&self.file("trust.json"), &serde_json::to_vec_pretty(&trust)?)?;
        Ok(trust)
    }

    /// Writes the contents of a bundle to the watched files that differ from it.
    ///
    /// # Errors
    /// The file system's error.
    pub fn spell_out(&self, settings: &BundleSettings) -> io::Result<()> {
        let keys = settings.token_keys.to_string();
        replace(&Following::token_keys(&self.state), keys.as_bytes())?;
        replace(&self.file("roots.pem"), settings.roots.as_bytes())
    }

    /// The site's roots, PEM, from the last bundle.
    pub fn roots(&self) -> Option<String> {
        let (bytes, _) = read_bounded(&self.file("roots.pem"), FILE_BYTES_MAX).ok()?;
        std::str::from_utf8(&bytes).ok().map(str::to_owned)
    }

    /// The stored identity; `None` before the first.
    ///
    /// # Errors
    /// The fault of its files.
    pub fn identity(&self, name: &str) -> io::Result<Option<OwnIdentity>> {
        let (pem, exposure) = match read_bounded(&self.file(&format!("{name}.pem")), FILE_BYTES_MAX)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if exposure == Exposure::Everyone {
            return Err(invalid("the gateway's key is readable by every user: chmod 600"));
        }
        let chain = crate::pem::certificates(&pem)
            .map_err(|_| invalid("the gateway's certificate is not PEM"))?;
        let key =
            crate::pem::private_key(&pem).ok_or_else(|| invalid("the gateway's key is not PEM"))?;
        let facts = chain.first().and_then(|der| Facts::of(der).ok());
        let renewal = facts.map_or(second(0), |facts| facts.renewal());
        Ok(Some(OwnIdentity { chain, key, renewal }))
    }

    /// Generates an identity under that name.
    ///
    /// # Errors
    /// The error of the file system or of the cryptography.
    pub fn make_identity(&self, name: &str, gateway: &str, now: Timestamp) -> io::Result<()> {
        self.prepare()?;
        let pair = request::identity(gateway, now).map_err(io::Error::other)?;
        // In one file, so that no crash leaves a key with another's certificate.
        let pem = Zeroizing::new(format!("{}{}", pair.certificate, *pair.key));
        write_private(&self.file(&format!("{name}.pem")), pem.as_bytes())
    }

    /// Uses the identity of that name from now on.
    ///
    /// # Errors
    /// The file system's error.
    pub fn adopt_identity(&self, name: &str) -> io::Result<()> {
        std::fs::rename(self.file(&format!("{name}.pem")), self.file("identity.pem"))
    }
}

/// Writes a file unless it already holds these bytes, so that its watchers see no change.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match read_bounded(path, FILE_BYTES_MAX) {
        Ok((held, _)) if **held == *bytes => Ok(()),
        _ => write_public(path, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Block, Bundle, BundleDelta, SignerKind, TokenSigner};

    fn signer() -> TokenSigner {
        let key = TokenSigner::generate(SignerKind::P256).unwrap();
        TokenSigner::from_pkcs8(&key, None).unwrap()
    }

    fn signed(version: u64, by: &TokenSigner, names: &[&TokenSigner]) -> (OpenedBundle, String) {
        let bundle = Bundle {
            settings: BundleSettings {
                site: "PS1".into(),
                hierarchy: uuid::Uuid::from_u128(1),
                issuer: "https://mp/oauth2".into(),
                servers: Vec::new(),
                origins: Vec::new(),
                bundle_keys: names.iter().map(|signer| signer.jwk()).collect(),
                token_keys: serde_json::json!({ "keys": [] }),
                roots: String::new(),
                revoked: Vec::new(),
                certificates_from: 0,
                gone: Vec::new(),
            },
            version,
            issued: 0,
            expires: 1,
            blocks: Vec::new(),
            chain: Some("c".into()),
        };
        let text = bundle.sign(by).unwrap();
        (OpenedBundle::peek(&text).unwrap(), text)
    }

    /// The delta after a state, which blocks a device.
    fn blocking(head: &BundleHead, device: &str, by: &TokenSigner) -> (BundleHead, String) {
        let delta = BundleDelta {
            site: "PS1".into(),
            version: head.version + 1,
            after: head.version,
            chain: head.chain.clone(),
            issued: 0,
            expires: 1,
            settings: None,
            removed: Vec::new(),
            added: vec![Block::Device(device.into())],
        };
        let text = delta.sign(by).unwrap();
        (head.next(&text).unwrap().0, text)
    }

    #[test]
    fn deltas_are_read_with_their_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, signer) = (BundleFiles::new(dir.path()), signer());
        let (first, text) = signed(1, &signer, &[&signer]);
        kept.keep(&first.head, &text).unwrap();
        let (second, one) = blocking(&first.head, "a", &signer);
        kept.keep_delta(&one).unwrap();
        let (third, two) = blocking(&second, "b", &signer);
        kept.keep_delta(&two).unwrap();
        let trust = kept.keep_trust(&third).unwrap();
        let opened = kept.bundle(&trust).unwrap().unwrap();
        assert_eq!(opened.head, third);
        assert_eq!(opened.blocks, [Block::Device("a".into()), Block::Device("b".into())]);
        assert_eq!(kept.text().unwrap(), [text.as_str(), &one, &two].join("\n"));
        // What is carried by hand is the same in one file.
        let other = BundleFiles::new(&dir.path().join("other"));
        other.keep(&third, &kept.text().unwrap()).unwrap();
        assert_eq!(other.bundle(&trust), Some(Ok(opened)));
        // The deltas before a whole bundle do not follow it.
        let (whole, text) = signed(9, &signer, &[&signer]);
        let trust = kept.keep(&whole.head, &text).unwrap();
        assert_eq!(kept.bundle(&trust), Some(Ok(whole)));
    }

    #[test]
    fn a_delta_that_a_crash_cut_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, signer) = (BundleFiles::new(dir.path()), signer());
        let (first, text) = signed(1, &signer, &[&signer]);
        let trust = kept.keep(&first.head, &text).unwrap();
        let (second, delta) = blocking(&first.head, "a", &signer);
        for cut in [1, delta.len() / 2, delta.len()] {
            std::fs::write(kept.dir().join(DELTAS), &delta[..cut]).unwrap();
            assert_eq!(kept.bundle(&trust), Some(Ok(first.clone())), "{cut} bytes");
        }
        // Complete, before the trust was written.
        std::fs::write(kept.dir().join(DELTAS), format!("{delta}\n")).unwrap();
        let opened = kept.bundle(&trust).unwrap().unwrap();
        assert_eq!(opened.head, second);
        // Once it was in force, a file without it is not the last state.
        let trust = kept.keep_trust(&second).unwrap();
        std::fs::write(kept.dir().join(DELTAS), "").unwrap();
        assert_eq!(kept.bundle(&trust), Some(Err(BundleRefusal::Older)));
    }

    #[test]
    fn the_bundle_in_force_survives_a_crash_during_a_key_change() {
        let dir = tempfile::tempdir().unwrap();
        let kept = BundleFiles::new(dir.path());
        assert_eq!(kept.trust(), None);
        let (now, next) = (signer(), signer());
        let (first, text) = signed(1, &now, &[&now, &next]);
        kept.keep(&first.head, &text).unwrap();
        let trust = kept.trust().unwrap();
        assert_eq!(kept.bundle(&trust), Some(Ok(first)));

        // The next one is signed by the key that the first has announced, and a crash cuts the
        // write short.
        let (second, text) = signed(2, &next, &[&next]);
        std::fs::write(kept.dir().join("bundle.jws"), text).unwrap();
        assert_eq!(kept.bundle(&trust), Some(Ok(second)));
        let (_, stranger) = signed(3, &signer(), &[&next]);
        std::fs::write(kept.dir().join("bundle.jws"), stranger).unwrap();
        assert_eq!(kept.bundle(&trust), Some(Err(BundleRefusal::Signature)));
    }

    #[test]
    fn an_older_bundle_in_the_place_of_the_last_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, signer) = (BundleFiles::new(dir.path()), signer());
        let (old, text) = signed(1, &signer, &[&signer]);
        kept.keep(&old.head, &text).unwrap();
        let (new, newer) = signed(2, &signer, &[&signer]);
        kept.keep(&new.head, &newer).unwrap();
        std::fs::write(kept.dir().join("bundle.jws"), text).unwrap();
        assert_eq!(kept.bundle(&kept.trust().unwrap()), Some(Err(BundleRefusal::Older)));
    }

    #[test]
    fn an_identity_is_replaced_by_the_next_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let kept = BundleFiles::new(dir.path());
        let now = second(1_800_000_000);
        assert!(kept.identity("identity").unwrap().is_none());
        kept.make_identity("identity", "gw1", now).unwrap();
        let first = kept.identity("identity").unwrap().unwrap();
        assert!(first.renewal > now);
        kept.make_identity("next", "gw1", now).unwrap();
        let next = kept.identity("next").unwrap().unwrap();
        assert_ne!(first.thumbprint(), next.thumbprint());
        kept.adopt_identity("next").unwrap();
        let adopted = kept.identity("identity").unwrap().unwrap();
        assert_eq!(adopted.thumbprint(), next.thumbprint());
        assert!(kept.identity("next").unwrap().is_none());
    }
}
