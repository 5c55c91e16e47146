//! Resolves the keys of `[[site_system]]` that name certificates.

use std::ops::Range;

use super::{ConfigError, ResolveScope};
use crate::config::code::ConfigCode;
use crate::config::file::{
    ClientCertificateFile, CrlExpiredFile, KeyModeFile, SiteSystemFile, UnprocessedFile,
};
use crate::config::resolved::{ClientCertificates, PkiFolder};
use crate::config::spanned::Spanned;
use crate::secret::PasswordSource;

/// The folder of the PKI certificate, and its file names.
pub(super) fn pki(file: &SiteSystemFile, scope: &mut ResolveScope<'_>) -> Option<PkiFolder> {
    let names = [
        ("pki_certificate", &file.pki_certificate, "tls.crt"),
        ("pki_key", &file.pki_key, "tls.key"),
        ("pki_ca", &file.pki_ca, "ca.crt"),
    ];
    let Some(path) = &file.pki else {
        let password = ("pki_password", &file.pki_password, "");
        for (key, value, _) in names.into_iter().chain([password]) {
            if let Some(value) = value {
                scope.conflict(value.span(), format!("{key} without pki"), "name the folder: pki");
            }
        }
        if let Some(value) = &file.pki_unprocessed {
            scope.conflict(value.span(), "pki_unprocessed without pki", "name the folder: pki");
        }
        return None;
    };
    let [certificate, key, ca] = names.map(|(_, value, default)| {
        value.as_ref().map_or(default.to_owned(), |value| value.get_ref().clone())
    });
    let unprocessed = file.pki_unprocessed.as_ref().map(|typed| *typed.get_ref());
    let mode = file.key_mode.as_ref().map(|mode| *mode.get_ref());
    Some(PkiFolder {
        path: scope.path(path.get_ref()),
        certificate,
        key,
        ca,
        ca_named: file.pki_ca.is_some(),
        process_more: unprocessed == Some(UnprocessedFile::Accept),
        password: file
            .pki_password
            .as_ref()
            .and_then(|typed| secret_source(typed, "pki_password", scope)),
        key_exposed_allowed: mode == Some(KeyModeFile::Any),
    })
}

/// `file:PATH` or `env:NAME`: the source of a secret, which is never in the configuration itself.
pub(super) fn secret_source(
    typed: &Spanned<String>,
    key: &str,
    scope: &mut ResolveScope<'_>,
) -> Option<PasswordSource> {
    match typed.get_ref().split_once(':') {
        Some(("file", path)) if !path.is_empty() => Some(PasswordSource::File(scope.path(path))),
        Some(("env", name)) if !name.is_empty() => Some(PasswordSource::Env(name.to_owned())),
        _ => {
            // Without its place: the quoted line could show a password.
            let error = ConfigError::whole(format!("a {key} is neither \"file:\" nor \"env:\""));
            let hint = "write \"file:/path\" or \"env:NAME\"; the secret does not belong here";
            scope.errors.push(error.code(ConfigCode::Exposed).hint(hint));
            None
        }
    }
}

/// The trust for client certificates, if clients are asked for them.
pub(super) fn clients(
    file: &SiteSystemFile,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> Option<ClientCertificates> {
    let asked = file.client_certificate.as_ref().map(|c| *c.get_ref());
    if asked != Some(ClientCertificateFile::Request) {
        let unused = [
            ("client_ca", file.client_ca.as_ref().map(Spanned::span)),
            ("client_crl", file.client_crl.as_ref().map(Spanned::span)),
            ("client_crl_expired", file.client_crl_expired.as_ref().map(Spanned::span)),
        ];
        for (key, at) in unused {
            if let Some(at) = at {
                let message = format!("{key}, but client certificates are not requested");
                scope.conflict(at, message, "write client_certificate = \"request\" as well");
            }
        }
        return None;
    }
    let hint = "the file with the authorities that issue client certificates, PEM";
    let ca = scope.required(file.client_ca.clone(), span, "client_ca of a site system", hint)?;
    let mut existing = |typed: &str, at: Range<usize>| {
        let path = scope.path(typed);
        if !path.is_file() {
            scope.no_file(at, &path);
        }
        path
    };
    let crls = file.client_crl.as_ref().map(|typed| {
        let files = typed.get_ref().clone().into_vec();
        files.iter().map(|path| existing(path, typed.span())).collect::<Vec<_>>()
    });
    let ca = existing(ca.get_ref(), ca.span());
    if let (Some(typed), true) = (&file.client_crl, crls.as_ref().is_some_and(Vec::is_empty)) {
        let hint = "name a file, or remove the key: revocation is not checked then";
        scope.coded(ConfigCode::Missing, typed.span(), "client_crl names no file", hint);
    }
    if let (Some(typed), None) = (&file.client_crl_expired, &crls) {
        scope.conflict(typed.span(), "client_crl_expired without client_crl", "name the CRLs");
    }
    let expired = file.client_crl_expired.as_ref().map(|e| *e.get_ref());
    Some(ClientCertificates {
        ca,
        crls: crls.unwrap_or_default(),
        expired_crls_count: expired == Some(CrlExpiredFile::Accept),
    })
}
