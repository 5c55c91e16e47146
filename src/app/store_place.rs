//! Where the site's store lies, as the configuration has it.

use std::path::PathBuf;

use super::StartError;
use crate::config::{Config, TokenServiceStore};
use crate::secret::Password;
use crate::site::store::{Place, PostgresUrl};

/// Where the store is, what it is called in errors, and whether it is there already.
pub(crate) fn store_place(config: &Config) -> Result<(Place, PathBuf, bool), StartError> {
    match &config.token_service.store {
        TokenServiceStore::Embedded => {
            let path = config.site.state.join("store").join("site.db");
            // What may not be looked at is there.
            let is_there = path.try_exists().unwrap_or(true);
            Ok((Place::Sqlite(path.clone()), path, is_there))
        }
        TokenServiceStore::Postgres(source) => {
            let shown = PathBuf::from("token_service.store");
            let failed = |cause| StartError::File { path: shown.clone(), cause };
            let (url, _) = Password::read(source).map_err(failed)?;
            let url = PostgresUrl::parse(url.reveal().trim())
                .map_err(|cause| failed(std::io::Error::other(cause.to_string())))?;
            Ok((Place::Postgres(url), shown.clone(), true))
        }
    }
}
