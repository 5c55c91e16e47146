//! What was typed: one type for each section of the file, with nothing resolved.
//!
//! Every field is optional here; what an absent one means is decided where the section is resolved.

use serde::Deserialize;

use super::spanned::Spanned;
use super::units::{Size, Span};

type Typed<T> = Option<Spanned<T>>;

/// `[site]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SiteFile {
    pub(super) code: Typed<String>,
    pub(super) hierarchy: Typed<String>,
    pub(super) state: Typed<String>,
    pub(super) domains: Typed<Vec<Spanned<String>>>,
    pub(super) certificates: Typed<CertificatesFile>,
    pub(super) authority_key: Typed<AuthorityKeyFile>,
    pub(super) token_issuer: Typed<String>,
    pub(super) blocklist: Typed<String>,
}

/// `site.certificates`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CertificatesFile {
    Enhanced,
    PkiOnly,
}

/// `site.authority_key`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AuthorityKeyFile {
    P256,
    Rsa2048,
}

/// `[admin]` and `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenFile {
    pub(super) listen: Typed<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogFile {
    pub(super) format: Typed<LogFormatFile>,
    pub(super) level: Typed<String>,
    pub(super) access: Typed<String>,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFormatFile {
    Text,
    Json,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsFile {
    pub(super) threads: Typed<u16>,
    pub(super) connections: Typed<u32>,
    pub(super) handshakes: Typed<u32>,
    pub(super) per_address: Typed<u32>,
    pub(super) handshake_time: Typed<Span>,
    pub(super) header_time: Typed<Span>,
    pub(super) header_bytes: Typed<Size>,
    pub(super) headers: Typed<u16>,
    pub(super) uri_bytes: Typed<Size>,
    pub(super) idle_time: Typed<Span>,
    pub(super) body_bytes_per_second: Typed<u32>,
    pub(super) body_grace: Typed<Span>,
    pub(super) send_stall: Typed<Span>,
    pub(super) drain_time: Typed<Span>,
    pub(super) token_cache: Typed<u32>,
}

/// `[[site_system]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SiteSystemFile {
    pub(super) name: Typed<String>,
    pub(super) roles: Typed<Vec<Spanned<String>>>,
    pub(super) listen: Typed<String>,
    pub(super) default: Typed<bool>,
    pub(super) hosts: Typed<Vec<Spanned<String>>>,
    pub(super) backend: Typed<String>,
    pub(super) backend_ca: Typed<String>,
    pub(super) backend_name: Typed<String>,
    pub(super) backend_connect_time: Typed<Span>,
    pub(super) backend_answer_time: Typed<Span>,
    pub(super) backend_idle_time: Typed<Span>,
    pub(super) websocket_idle_time: Typed<Span>,
    pub(super) backend_connections: Typed<u32>,
    pub(super) cleartext: Typed<String>,
    pub(super) pki: Typed<String>,
    pub(super) pki_certificate: Typed<String>,
    pub(super) pki_key: Typed<String>,
    pub(super) pki_ca: Typed<String>,
    pub(super) pki_password: Typed<String>,
    pub(super) key_mode: Typed<KeyModeFile>,
    pub(super) issuers: Typed<Vec<Spanned<String>>>,
    pub(super) mode: Typed<ModeFile>,
    pub(super) observe_until: Typed<toml::value::Datetime>,
    pub(super) client_certificate: Typed<ClientCertificateFile>,
    pub(super) client_ca: Typed<String>,
    pub(super) client_crl: Typed<OneOrMany>,
    pub(super) client_crl_expired: Typed<CrlExpiredFile>,
    pub(super) proxy_protocol: Typed<Vec<Spanned<String>>>,
    pub(super) http2: Typed<bool>,
    pub(super) windows_auth: Typed<bool>,
    pub(super) token_headers: Typed<Vec<Spanned<String>>>,
    pub(super) route: Option<toml::Value>,
}

/// `site_system.key_mode`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyModeFile {
    Private,
    Any,
}

/// `site_system.mode`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ModeFile {
    Enforce,
    Observe,
}

/// `site_system.client_certificate`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientCertificateFile {
    Off,
    Request,
}

/// `site_system.client_crl_expired`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CrlExpiredFile {
    Deny,
    Accept,
}

/// `[[site_system.route]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteFile {
    pub(super) path: Typed<String>,
    pub(super) require: Typed<String>,
    pub(super) methods: Typed<Vec<Spanned<String>>>,
    pub(super) body_bytes: Typed<Size>,
    pub(super) purposes: Typed<Vec<Spanned<String>>>,
    pub(super) token: Typed<TokenFile>,
    pub(super) websocket: Typed<bool>,
}

/// `route.token`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TokenFile {
    Strip,
    Forward,
}

/// `[[token_issuer]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenIssuerFile {
    pub(super) name: Typed<String>,
    pub(super) kind: Typed<KindFile>,
    pub(super) tenant: Typed<String>,
    pub(super) issuer: Typed<OneOrMany>,
    pub(super) audiences: Typed<Vec<Spanned<String>>>,
    pub(super) keys: Typed<OneOrMany>,
    pub(super) key_hosts: Typed<Vec<Spanned<String>>>,
    pub(super) private_hosts: Typed<Vec<Spanned<String>>>,
    pub(super) key_ca: Typed<String>,
    pub(super) key_refresh: Typed<Span>,
    pub(super) key_refetch_interval: Typed<Span>,
    pub(super) leeway: Typed<Span>,
    pub(super) lifetime_max: Typed<Span>,
    pub(super) device_claim: Typed<String>,
    pub(super) user_claim: Typed<String>,
}

/// `token_issuer.kind`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KindFile {
    Site,
    Entra,
    Oidc,
}

/// A string, or a list of strings.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}
