//! The configuration: one TOML file, parsed into raw sections and resolved into typed settings.
//!
//! Collects every error with its place. Reads other files only to check that they exist and are
//! valid; starts nothing and stores nothing.

mod code;
mod declared;
mod error;
mod file;
pub mod in_force;
mod limits;
mod place;
mod read;
mod requirements;
mod resolve;
mod resolved;
mod schema;
mod schema_types;
mod scope;
mod spanned;
mod units;

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;

pub use code::ConfigCode;
pub use declared::{KeyDeclaration, in_toml};
pub use error::{ConfigError, ConfigErrors};
pub use limits::Limits;
pub use resolved::{
    AccessFormat, AltAuth, AuthorityKey, BackendAddress, BackendConfig, BackendTimes,
    ClientCertificates, Config, Following, IssuerConfig, KeySource, KeyUrl, LogFormat, LogSink,
    Logging, MessageGuard, MessagePolicy, ObserveUntil, PkiFolder, PlainHttp, PlainHttpMode,
    SiteConfig, SiteKind, SiteSystem, TokenServiceConfig, TokenServiceStore,
};
pub use schema::schema;
pub use units::{Size, Span};

/// The largest file that is read as a configuration.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A valid configuration, with its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The resolved configuration.
    pub config: Config,
    /// Warnings, in the order of the file.
    pub warnings: ConfigErrors,
}

/// Reads and resolves a configuration file. Times in it are compared with `now`.
///
/// # Errors
/// All errors in it.
pub fn load(path: &Path, now: Timestamp) -> Result<Loaded, ConfigErrors> {
    load_from(path, crate::secret::read_whole(path, FILE_BYTES_MAX).map(|(bytes, _)| bytes), now)
}

/// The same with the file's contents already read.
///
/// # Errors
/// As [`load`].
pub fn load_from(
    path: &Path,
    read: std::io::Result<zeroize::Zeroizing<Vec<u8>>>,
    now: Timestamp,
) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    let fail = |message: String, hint: Option<&str>| {
        let error = ConfigError::whole(message).code(ConfigCode::Unreadable);
        let error = match hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        ConfigErrors { path: name.clone(), text: String::new(), errors: vec![error] }
    };
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => {
                Some("'sitegate init' writes one; --config or SITEGATE_CONFIG names another")
            }
            ErrorKind::PermissionDenied => {
                Some("run this command as the user that sitegate runs as")
            }
            _ => None,
        };
        fail(format!("the configuration cannot be read: {error}"), hint)
    };
    let bytes = read.map_err(unreadable)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name, path.parent().unwrap_or(Path::new(".")), now),
        Err(_) => {
            Err(fail("the configuration is not UTF-8 text".to_owned(), Some("save it as UTF-8")))
        }
    }
}

/// Resolves a configuration from its text. Relative paths in it are relative to `base`.
///
/// # Errors
/// All errors in it.
pub fn parse(text: &str, name: &str, base: &Path, now: Timestamp) -> Result<Loaded, ConfigErrors> {
    let (config, mut errors) = resolve::resolve(text, base, now);
    errors.sort_by_key(|e| e.span.as_ref().map_or(usize::MAX, |s| s.start));
    let (warnings, errors): (Vec<_>, Vec<_>) = errors.into_iter().partition(|e| e.warning);
    let told = |errors| ConfigErrors { path: name.to_owned(), text: text.to_owned(), errors };
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings: told(warnings) }),
        _ => Err(told(errors)),
    }
}
