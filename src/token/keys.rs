//! The keys of an issuer: parsed from watched files, looked up by the key names in a token's
//! header.
//!
//! One bad key never stops the others. Never fetches, and never grows by names in tokens.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;

use self::reading::Reader;
use super::algorithm::Algorithm;
use super::claims::Header;
use super::material::Material;
use super::text::to_base64url;

mod reading;

/// The largest number of keys in one set. A lookup compares with all of them.
pub const KEYS_MAX: usize = 64;

/// The largest key file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// A public key that verifies tokens, with its one algorithm.
pub struct VerifyingKey {
    kid: Option<String>,
    x5t: Option<String>,
    x5t_s256: Option<String>,
    algorithm: Algorithm,
    issuer: Option<String>,
    file: String,
    material: Material,
    verifier: ParsedPublicKey,
}

/// The issuer URLs of each Entra cloud, for tokens of version 2.0 and of version 1.0.
const ENTRA_CLOUDS: [(&str, &str); 3] = [
    ("https://login.microsoftonline.com/", "https://sts.windows.net/"),
    ("https://login.microsoftonline.us/", "https://sts.windows.net/"),
    ("https://login.partner.microsoftonline.cn/", "https://sts.chinacloudapi.cn/"),
];

/// The usable keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<VerifyingKey>);

/// Why a lookup found no key, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The set has no such key; a newer set may have it.
    Unknown(&'static str),
    /// There are candidates, but none fits.
    Unfit(&'static str),
    /// The key of this name is for another algorithm.
    Algorithm(&'static str),
}

/// A key, or a whole file, that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// The name of the file, as given.
    pub file: String,
    /// Which key of the file, in words; `None` for the file as a whole.
    pub key: Option<String>,
    /// The fault, as the rest of a sentence that begins with the key or the file.
    pub message: &'static str,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key} {}", self.file, self.message),
            None => write!(f, "{}: the file {}", self.file, self.message),
        }
    }
}

impl VerifyingKey {
    /// The name given by `kid`, if the file gave one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The SHA-1 thumbprint of the key's certificate, base64url (RFC 7515 §4.1.7).
    pub fn x5t(&self) -> Option<&str> {
        self.x5t.as_deref()
    }

    /// The only algorithm that this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The name of the file that the key came from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether `signature` over `message` verifies with this key and its algorithm.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }

    /// Whether the key is for tokens of `iss`: the key's own `issuer`, with the tenant filled in,
    /// must equal it, or be the version 2.0 issuer of the same Entra tenant.
    fn is_for(&self, iss: &str, tenant: Option<&str>) -> bool {
        match (&self.issuer, tenant) {
            (None, _) => true,
            (Some(issuer), Some(tenant)) => {
                let issuer = issuer.replace("{tenantid}", tenant);
                issuer == iss || is_v2_of(&issuer, iss, tenant)
            }
            (Some(issuer), None) => issuer == iss,
        }
    }

    /// Whether `other`, which has the same issuer and algorithm, makes this key redundant: both
    /// share a name, or both are the same key and this one has no name.
    fn is_replaced_by(&self, other: &VerifyingKey) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let unnamed = self.kid.is_none() && self.x5t.is_none();
        self.issuer == other.issuer
            && self.algorithm == other.algorithm
            && (same(&self.kid, &other.kid)
                || same(&self.x5t, &other.x5t)
                || same(&self.x5t_s256, &other.x5t_s256)
                || (unnamed && self.material == other.material))
    }

    /// Whether the header's key names match this key: at least one is equal, and none differs.
    /// Compares all of them, so that the timing does not reveal which one matched.
    fn is_named_by(&self, header: &Header) -> bool {
        let names = [
            (&self.kid, &header.kid),
            (&self.x5t, &header.x5t),
            (&self.x5t_s256, &header.x5t_s256),
        ];
        let (mut agree, mut differ) = (false, false);
        for (ours, theirs) in names {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                agree |= ours == theirs;
                differ |= ours != theirs;
            }
        }
        agree && !differ
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("x5t", &self.x5t)
            .field("algorithm", &self.algorithm)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Parses all keys of these files (name, bytes): JWK sets, and PEM files with public keys and
    /// certificates. An unusable key is reported as a problem and stops nothing else.
    ///
    /// The dates of a certificate are not checked: here it is only a container for a key that the
    /// operator placed.
    pub fn parse(files: &[(&str, &[u8])]) -> (KeySet, Vec<KeyProblem>) {
        let mut reader = Reader::default();
        for (file, bytes) in files {
            reader.file = (*file).to_owned();
            reader.read(bytes);
        }
        (KeySet(reader.keys), reader.problems)
    }

    /// The keys, in the order of their files.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.0.iter()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys, so that no token of the issuer can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that the header names, among the keys for `iss` and the header's algorithm: some
    /// issuers use one `kid` for keys of several algorithms. Without key names in the header it is
    /// the only key for that algorithm. Each key has exactly one algorithm, which no token changes.
    ///
    /// The error is for the log only: clients must not be able to distinguish an unknown key from a
    /// wrong signature.
    pub(super) fn find(
        &self,
        header: &Header,
        iss: &str,
        tenant: Option<&str>,
    ) -> Result<&VerifyingKey, NoKey> {
        let named = header.kid.is_some() || header.x5t.is_some() || header.x5t_s256.is_some();
        let (mut found, mut count) = (None::<&VerifyingKey>, 0_usize);
        let (mut foreign, mut otherwise) = (false, false);
        for key in &self.0 {
            let fits = key.algorithm == header.algorithm;
            let meant = if named { key.is_named_by(header) } else { fits };
            let ours = key.is_for(iss, tenant);
            foreign |= meant && !ours;
            otherwise |= meant && ours && !fits;
            if meant && ours && fits {
                // One key under several names, or for both versions of an issuer, counts once.
                count += usize::from(found.is_none_or(|other| other.material != key.material));
                found = Some(key);
            }
        }
        match (found, count, named) {
            (Some(key), 1, _) => Ok(key),
            (_, 2.., true) => Err(NoKey::Unfit("the token's kid or x5t matches more than one key")),
            (_, 2.., false) => {
                Err(NoKey::Unfit("the token names no key, and the issuer has several"))
            }
            _ if otherwise => Err(NoKey::Algorithm("alg does not match its key")),
            _ if foreign => {
                Err(NoKey::Unfit("the token's key is bound to another issuer by its key file"))
            }
            (_, _, true) => Err(NoKey::Unknown("the issuer has no key with this name")),
            (_, _, false) => {
                Err(NoKey::Unknown("the token names no key, and the issuer has none for its alg"))
            }
        }
    }
}

/// Whether `issuer` is the `iss` of the tenant's version 2.0 tokens, and `iss` that of its version
/// 1.0 tokens. Entra signs both with the same keys, and its version 2.0 key document names only the
/// version 2.0 issuer.
fn is_v2_of(issuer: &str, iss: &str, tenant: &str) -> bool {
    ENTRA_CLOUDS.iter().any(|(v2, v1)| {
        let issuer = issuer.strip_prefix(v2).and_then(|rest| rest.strip_suffix("/v2.0"));
        let iss = iss.strip_prefix(v1).and_then(|rest| rest.strip_suffix('/'));
        issuer == Some(tenant) && iss == Some(tenant)
    })
}

/// The SHA-1 and SHA-256 thumbprints of a certificate, base64url (RFC 7515 §4.1.7 and §4.1.8).
pub(super) fn thumbprints(der: &[u8]) -> (String, String) {
    // SHA-1 is only an identifier here; trust is in the key.
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    (to_base64url(sha1), to_base64url(digest::digest(&digest::SHA256, der)))
}
