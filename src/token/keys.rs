//! The keys of an issuer: parsed from the bytes of watched files, found by the names a token gives.
//!
//! One bad key never stops the others. Never fetches, and never grows by what a token names.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;

use self::reading::Reader;
use super::algorithm::Algorithm;
use super::claims::Header;
use super::material::Material;
use super::text::to_base64url;

mod reading;

/// How many keys one set may hold. A lookup compares with all of them.
pub const KEYS_MAX: usize = 64;

/// The largest key file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// A public key that verifies tokens, with the one algorithm that it is for.
pub struct Key {
    kid: Option<String>,
    x5t: Option<String>,
    x5t_s256: Option<String>,
    algorithm: Algorithm,
    issuer: Option<String>,
    file: String,
    material: Material,
    verifier: ParsedPublicKey,
}

/// Where each of Entra's clouds issues tokens of version 2.0 and of version 1.0.
const ENTRA_CLOUDS: [(&str, &str); 3] = [
    ("https://login.microsoftonline.com/", "https://sts.windows.net/"),
    ("https://login.microsoftonline.us/", "https://sts.windows.net/"),
    ("https://login.partner.microsoftonline.cn/", "https://sts.chinacloudapi.cn/"),
];

/// The usable keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

/// Why no key of a set is the one that a header means, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// There is none: a newer set may have it.
    Unknown(&'static str),
    /// There are some, and none is it.
    Unfit(&'static str),
    /// There is one of this name, for other algorithms.
    Algorithm(&'static str),
}

/// A key, or a whole file, that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// The name of the file, as it was given.
    pub file: String,
    /// Which key of the file, in words; `None` for the file as a whole.
    pub key: Option<String>,
    /// What is wrong, as the rest of a sentence that begins with the key or the file.
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

impl Key {
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

    /// Whether `signature` is this key's over `message`, by this key's algorithm.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }

    /// Whether the key is for tokens of `iss`: the key's own `issuer`, with the tenant filled in,
    /// must be it, or be the name of the same Entra tenant in version 2.0.
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

    /// Whether `other`, which is for the same tokens by the same algorithm, leaves nothing for this
    /// key: it would be taken for this one by a name, or is this one without a name of its own.
    fn is_replaced_by(&self, other: &Key) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        let unnamed = self.kid.is_none() && self.x5t.is_none();
        self.issuer == other.issuer
            && self.algorithm == other.algorithm
            && (same(&self.kid, &other.kid)
                || same(&self.x5t, &other.x5t)
                || same(&self.x5t_s256, &other.x5t_s256)
                || (unnamed && self.material == other.material))
    }

    /// Whether the names of the token's header are this key's: at least one is, and none that both
    /// have differs. Looks at all of them, so that the work does not tell which one was right.
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

impl fmt::Debug for Key {
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
    /// Read all keys of these files (name, bytes): JWK sets, and PEM files with public keys and
    /// certificates. What cannot be used is a problem and stops nothing else.
    ///
    /// The dates of a certificate are not judged: here it is only the wrapping of a key that the
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
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key at all, so that no token of the issuer can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one key that the header names, among those that are for `iss` and for its algorithm: some
    /// issuers give one `kid` to keys of several. A header without names means the only key that
    /// there is for its algorithm. Each key still has exactly one, which no token changes.
    ///
    /// The error says why, for the log alone: clients must not be able to tell an unknown key from
    /// a wrong signature.
    pub(super) fn find(
        &self,
        header: &Header,
        iss: &str,
        tenant: Option<&str>,
    ) -> Result<&Key, NoKey> {
        let named = header.kid.is_some() || header.x5t.is_some() || header.x5t_s256.is_some();
        let (mut found, mut count) = (None::<&Key>, 0_usize);
        let (mut foreign, mut otherwise) = (false, false);
        for key in &self.0 {
            let fits = key.algorithm == header.algorithm;
            let meant = if named { key.is_named_by(header) } else { fits };
            let ours = key.is_for(iss, tenant);
            foreign |= meant && !ours;
            otherwise |= meant && ours && !fits;
            if meant && ours && fits {
                // One key under several names, or for both versions of an issuer, is one key.
                count += usize::from(found.is_none_or(|other| other.material != key.material));
                found = Some(key);
            }
        }
        match (found, count, named) {
            (Some(key), 1, _) => Ok(key),
            (_, 2.., true) => Err(NoKey::Unfit("the token's key names fit more than one key")),
            (_, 2.., false) => {
                Err(NoKey::Unfit("the token names no key, and the issuer has several"))
            }
            _ if otherwise => Err(NoKey::Algorithm("alg is not the one its key is for")),
            _ if foreign => {
                Err(NoKey::Unfit("the token's key is bound to another issuer by its key file"))
            }
            (_, _, true) => Err(NoKey::Unknown("the issuer has no key of this name")),
            (_, _, false) => {
                Err(NoKey::Unknown("the token names no key, and the issuer has none for its alg"))
            }
        }
    }
}

/// Whether `issuer` is what the tenant's tokens of version 2.0 have as `iss`, and `iss` is its tokens'
/// of version 1.0. Entra signs both with the same keys, and its key document of version 2.0 names
/// the issuer of version 2.0 alone.
fn is_v2_of(issuer: &str, iss: &str, tenant: &str) -> bool {
    ENTRA_CLOUDS.iter().any(|(v2, v1)| {
        let issuer = issuer.strip_prefix(v2).and_then(|rest| rest.strip_suffix("/v2.0"));
        let iss = iss.strip_prefix(v1).and_then(|rest| rest.strip_suffix('/'));
        issuer == Some(tenant) && iss == Some(tenant)
    })
}

/// The SHA-1 and SHA-256 thumbprints of a certificate, base64url (RFC 7515 §4.1.7 and §4.1.8).
pub(super) fn thumbprints(der: &[u8]) -> (String, String) {
    // SHA-1 is only a name here: what is trusted is the key behind it.
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    (to_base64url(sha1), to_base64url(digest::digest(&digest::SHA256, der)))
}
