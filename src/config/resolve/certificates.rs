//! The keys of `[[site_system]]` that name certificates.

use toml::Spanned;

use super::Scope;
use crate::config::file::{KeyModeFile, SiteSystemFile};
use crate::config::resolved::PkiFolder;
use crate::secret::PasswordSource;

/// The folder of the PKI's certificate, and what is in it.
pub(super) fn pki(file: &SiteSystemFile, scope: &mut Scope<'_>) -> Option<PkiFolder> {
    let names = [
        ("pki_certificate", &file.pki_certificate, "tls.crt"),
        ("pki_key", &file.pki_key, "tls.key"),
        ("pki_ca", &file.pki_ca, "ca.crt"),
    ];
    let Some(path) = &file.pki else {
        let password = ("pki_password", &file.pki_password, "");
        for (key, value, _) in names.into_iter().chain([password]) {
            if let Some(value) = value {
                scope.hinted(value.span(), format!("{key} without pki"), "name the folder: pki");
            }
        }
        return None;
    };
    let [certificate, key, ca] = names.map(|(_, value, default)| {
        value.as_ref().map_or(default.to_owned(), |value| value.get_ref().clone())
    });
    let mode = file.key_mode.as_ref().map(|mode| *mode.get_ref());
    Some(PkiFolder {
        path: scope.path(path.get_ref()),
        certificate,
        key,
        ca,
        password: file.pki_password.as_ref().and_then(|typed| password_source(typed, scope)),
        key_exposed_allowed: mode == Some(KeyModeFile::Any),
    })
}

/// `file:PATH` or `env:NAME`: where a password is, never the password itself.
fn password_source(typed: &Spanned<String>, scope: &mut Scope<'_>) -> Option<PasswordSource> {
    match typed.get_ref().split_once(':') {
        Some(("file", path)) if !path.is_empty() => Some(PasswordSource::File(scope.path(path))),
        Some(("env", name)) if !name.is_empty() => Some(PasswordSource::Env(name.to_owned())),
        _ => {
            let hint =
                "write \"file:/path\" or \"env:NAME\"; the password itself does not belong here";
            scope.hinted(typed.span(), "pki_password says where the password is", hint);
            None
        }
    }
}
