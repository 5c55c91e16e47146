//! The configuration: one TOML file, read into what was typed and resolved into what it means.
//!
//! Collects every error with its place. Reads files only to check that they are there and good;
//! starts nothing and keeps nothing.

mod code;
mod error;
mod file;
pub mod in_force;
mod place;
mod read;
mod resolve;
mod resolved;
mod schema;
mod spanned;
mod units;

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;

pub use code::ConfigCode;
pub use error::{ConfigError, ConfigErrors};
pub use resolved::{
    AccessFormat, AltAuth, AuthorityKey, Backend, BackendAddress, BackendTimes, ClientCertificates,
    Config, ConnLimits, Following, Issuer, KeySource, KeyUrl, Limits, LogFormat, LogSink, Logging,
    MessageGuard, ObserveUntil, PkiFolder, PlainHttp, PlainHttpMode, Site, SiteKind, SiteSystem,
    TokenService, TokenServiceStore,
};
pub use schema::schema;
pub use units::{Size, Span};

/// A configuration that is larger is none.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A configuration that holds, and what its author should know all the same.
#[derive(Debug)]
pub struct Loaded {
    /// What the file means.
    pub config: Config,
    /// Warnings, in the order of the file.
    pub warnings: ConfigErrors,
}

/// Read and resolve a configuration file. `now` is what times in it are compared with.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, now: Timestamp) -> Result<Loaded, ConfigErrors> {
    load_from(path, crate::secret::read_whole(path, FILE_BYTES_MAX).map(|(bytes, _)| bytes), now)
}

/// The same of what was read of the file already.
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
            ErrorKind::PermissionDenied => Some("run this as the user that sitegate runs as"),
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

/// Resolve a configuration from its text. Relative paths in it are relative to `base`.
///
/// # Errors
/// Everything that is wrong with it.
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
