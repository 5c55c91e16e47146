//! The values of keys that have a few words to choose from.

use schemars::JsonSchema;
use serde::Deserialize;

/// `site.certificates`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum CertificatesFile {
    Enhanced,
    PkiOnly,
}

/// `site.kind`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum SiteKindFile {
    Primary,
    CentralAdministration,
}

/// `site.authority_key`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum AuthorityKeyFile {
    P256,
    Rsa2048,
}

/// `token_service.approval`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ApprovalFile {
    Automatic,
    Manual,
}

/// `token_service.claimed_ids`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ClaimedIdsFile {
    Approval,
    Accept,
}

/// `token_service.algorithm`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::config) enum AlgorithmFile {
    Rs256,
    Es256,
}

/// `site_server.stale`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum StaleFile {
    Serve,
    Deny,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum LogFormatFile {
    Text,
    Json,
}

/// `log.access_format`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum AccessFormatFile {
    Json,
    Combined,
    W3c,
}

/// `site_system.key_mode`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum KeyModeFile {
    Private,
    Any,
}

/// `site_system.mode`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ModeFile {
    Enforce,
    Observe,
}

/// `site_system.client_certificate`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ClientCertificateFile {
    Off,
    Request,
}

/// `site_system.client_crl_expired`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum CrlExpiredFile {
    Deny,
    Accept,
}

/// `route.token`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum TokenFile {
    Strip,
    Forward,
}

/// `site_system.upstream` and `route.upstream`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum UpstreamFile {
    PassThrough,
    Translate,
}

/// `site_system.message_guard`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum MessageGuardFile {
    Off,
    Shape,
    Device,
}

/// `site_system.plain_http.mode`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum PlainHttpModeFile {
    Refuse,
    Redirect,
    Pass,
}

/// `token_issuer.kind`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum KindFile {
    Site,
    Entra,
    Oidc,
}

/// A string, or a list of strings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(in crate::config) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// `site_system.pki_unprocessed`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum UnprocessedFile {
    Refuse,
    Accept,
}
