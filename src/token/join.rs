//! The token by which a gateway joins a site: the addresses of the site's servers, the pin of the
//! root key, and a secret for one use.
//!
//! No trust on first use: the token pins the root's key. Reads no files and opens no sockets.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::mint::MintError;
use super::text::{base64url, to_base64url};

/// The longest lifetime of a join token, in seconds.
pub const JOIN_LIFE_MAX_S: i64 = 24 * 3_600;

const PREFIX: &str = "sitegate-join.";
const BYTES_MAX: usize = 8 * 1024;
const SECRET_BYTES: usize = 32;

/// A join token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The gateway that it is for.
    pub name: String,
    /// The addresses of the site's servers: `https://`, host and port.
    pub servers: Vec<String>,
    /// The SHA-256 of the root's public key (its SubjectPublicKeyInfo), base64url.
    pub root: String,
    /// The JWK thumbprint of the key that signs the site's bundles.
    pub bundle_key: String,
    /// The end of its validity, in seconds since 1970.
    pub expires: i64,
    /// The secret that only its holder knows.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    secret: Zeroizing<String>,
}

fn write<S: Serializer>(secret: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret)
}

fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl JoinToken {
    /// Creates a token with a fresh secret.
    ///
    /// # Errors
    /// [`MintError::Lifetime`] for more than a day, [`MintError::Signing`] if the random generator
    /// fails.
    pub fn make(
        name: &str,
        servers: Vec<String>,
        root: &str,
        bundle_key: &str,
        lifetime_s: i64,
        now: Timestamp,
    ) -> Result<Self, MintError> {
        if !(1..=JOIN_LIFE_MAX_S).contains(&lifetime_s) {
            return Err(MintError::Lifetime { max_s: JOIN_LIFE_MAX_S });
        }
        let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
        SystemRandom::new().fill(secret.as_mut()).map_err(|_| MintError::Signing)?;
        Ok(JoinToken {
            name: name.to_owned(),
            servers,
            root: root.to_owned(),
            bundle_key: bundle_key.to_owned(),
            expires: now.as_second().saturating_add(lifetime_s),
            secret: Zeroizing::new(to_base64url(secret.as_ref())),
        })
    }

    /// Parses the file that an administrator has written; `None` if it is not a join token.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let coded = text.strip_prefix(PREFIX).filter(|coded| coded.len() <= BYTES_MAX)?;
        let json = Zeroizing::new(base64url(coded)?);
        let token: JoinToken = serde_json::from_slice(&json).ok()?;
        let whole = !token.servers.is_empty() && !token.name.is_empty() && token.secret.len() >= 43;
        whole.then_some(token)
    }

    /// The token as text. A secret until it is used.
    pub fn reveal(&self) -> Zeroizing<String> {
        let json = Zeroizing::new(serde_json::to_string(self).unwrap_or_default());
        Zeroizing::new(format!("{PREFIX}{}", to_base64url(json.as_bytes())))
    }

    /// The secret by which its holder proves possession.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The identifier by which a site server knows the token without being able to use it.
    pub fn fingerprint(&self) -> String {
        join_fingerprint(&self.secret)
    }
}

/// The identifier of a join token, from its secret: a SHA-256, base64url.
pub fn join_fingerprint(secret: &str) -> String {
    to_base64url(digest::digest(&digest::SHA256, secret.as_bytes()))
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .field("root", &self.root)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> JoinToken {
        let now = Timestamp::from_second(1_000).unwrap();
        JoinToken::make("gw1", vec!["https://site01:8443".into()], "root", "key", 60, now).unwrap()
    }

    #[test]
    fn a_join_token_round_trips_and_hides_its_secret() {
        let token = made();
        let text = token.reveal();
        assert_eq!(JoinToken::parse(&format!(" {}\n", *text)), Some(token.clone()));
        assert_eq!(token.expires, 1_060);
        assert!(!format!("{token:?}").contains(token.secret()));
        assert_ne!(token.fingerprint(), made().fingerprint());
        assert_eq!(join_fingerprint(token.secret()), token.fingerprint());
    }

    #[test]
    fn what_is_no_join_token_is_not_read() {
        let text = made().reveal();
        for bad in ["", "sitegate-join.", "sitegate-join.e30", &text[1..], &text[..text.len() - 9]]
        {
            assert_eq!(JoinToken::parse(bad), None, "{bad}");
        }
        let now = Timestamp::from_second(0).unwrap();
        for life in [0, -1, JOIN_LIFE_MAX_S + 1] {
            let made = JoinToken::make("a", vec!["https://s".into()], "r", "k", life, now);
            assert_eq!(made, Err(MintError::Lifetime { max_s: JOIN_LIFE_MAX_S }));
        }
    }
}
