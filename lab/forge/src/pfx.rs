//! PFX files of forged leaves, as exporters write them.

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::ForgeError;

/// The encryption and MAC of a PFX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// AES-256 and SHA-256, as exporters do today.
    Modern,
    /// 3DES and SHA-1, as older versions of Windows do.
    Legacy,
}

/// A PFX of a leaf, its key and the certificates above it, as an exporter writes it. `rounds` is
/// the iteration count of its key derivation.
///
/// # Errors
/// [`ForgeError`] with the fault of the parts.
pub fn pfx(
    (certificates, key): (&str, &str),
    password: &str,
    protection: Protection,
    rounds: u32,
) -> Result<Vec<u8>, ForgeError> {
    let failed = |error: p12_keystore::error::Error| ForgeError(error.to_string());
    let broken = |_| ForgeError("not PEM".to_owned());
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(broken)?;
    let key = PrivateKey::from_der(key.secret_pkcs8_der()).map_err(failed)?;
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .map(|der| Certificate::from_der(&der.map_err(broken)?).map_err(failed))
        .collect::<Result<Vec<_>, ForgeError>>()?;
    let mut store = KeyStore::new();
    let entry = PrivateKeyChain::new("sitegate", key, chain);
    store.add_entry("sitegate", KeyStoreEntry::PrivateKeyChain(entry));
    let (encryption, mac) = match protection {
        Protection::Modern => {
            (EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256)
        }
        Protection::Legacy => {
            (EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1)
        }
    };
    let writer = store.writer(password).encryption_algorithm(encryption).mac_algorithm(mac);
    writer.encryption_iterations(rounds).mac_iterations(rounds).write().map_err(failed)
}
