//! What was typed in the tables of a site system.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Typed;
use super::words::{PlainHttpModeFile, TokenFile, UpstreamFile};
use crate::config::schema_types;
use crate::config::spanned::Spanned;
use crate::config::units::{Size, Span};

/// `[[site_system.role_backend]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["role", "backend"]))]
pub(in crate::config) struct RoleBackendFile {
    /// The role, one of the site system's.
    #[schemars(schema_with = "schema_types::role")]
    pub(in crate::config) role: Typed<String>,
    /// The backend of the role: `http://host[:port]`, `https://host[:port]` or `unix:/path`.
    #[schemars(regex(pattern = "^(http://|https://|unix:/)"))]
    pub(in crate::config) backend: Typed<String>,
    /// For https: a PEM file with the trusted roots, in place of the system's.
    pub(in crate::config) backend_ca: Typed<String>,
    /// For https: the name in the backend's certificate; by default its host.
    pub(in crate::config) backend_name: Typed<String>,
    /// The timeout for a connection; by default that of the site system.
    pub(in crate::config) backend_connect_time: Typed<Span>,
    /// The timeout for the first byte of the response, and between its parts; by default that of the site system.
    pub(in crate::config) backend_answer_time: Typed<Span>,
    /// How long an idle connection is kept in the pool; by default as for the site system.
    pub(in crate::config) backend_idle_time: Typed<Span>,
    /// The account with which sitegate authenticates to this backend; that of another backend is not used.
    pub(in crate::config) backend_auth: Typed<BackendAuthFile>,
}

/// `[site_system.backend_auth]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["basic"]))]
pub(in crate::config) struct BackendAuthFile {
    /// The source of the user name, a colon and the password, in one line: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(in crate::config) basic: Typed<String>,
}

/// `[[site_system.route]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path", "require"]))]
pub(in crate::config) struct RouteFile {
    /// One path, or with a trailing slash the path and everything below it.
    pub(in crate::config) path: Typed<String>,
    /// The credentials that a request must have.
    #[schemars(schema_with = "schema_types::requirement")]
    pub(in crate::config) require: Typed<String>,
    /// The accepted methods, in upper case.
    #[schemars(extend("default" = ["GET", "HEAD", "POST"]))]
    pub(in crate::config) methods: Typed<Vec<Spanned<String>>>,
    /// The largest request body; by default any size.
    pub(in crate::config) body_bytes: Typed<Size>,
    /// Requests per minute from one IPv4 address or IPv6 /64; by default any number.
    #[schemars(range(min = 1))]
    pub(in crate::config) requests_per_minute: Typed<u32>,
    /// The purposes a token may have.
    #[schemars(schema_with = "schema_types::purposes", extend("default" = ["client"]))]
    pub(in crate::config) purposes: Typed<Vec<Spanned<String>>>,
    /// Whether the token is removed or forwarded to the backend.
    #[schemars(extend("default" = "strip"))]
    pub(in crate::config) token: Typed<TokenFile>,
    /// For a path in a token namespace: whether it is forwarded as it is, or translated to the plain namespace.
    #[schemars(extend("default" = "pass-through"))]
    pub(in crate::config) upstream: Typed<UpstreamFile>,
    /// The role whose backend its requests go to; by default the site system's backend.
    #[schemars(schema_with = "schema_types::role")]
    pub(in crate::config) role: Typed<String>,
    /// Whether http links to the site system are rewritten to https, in pages, listings and redirects.
    #[schemars(extend("default" = false))]
    pub(in crate::config) rewrite_links: Typed<bool>,
    /// Whether requests may be upgraded to WebSocket.
    #[schemars(extend("default" = false))]
    pub(in crate::config) websocket: Typed<bool>,
}

/// `[site_system.alt_auth]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["networks", "endpoints"]))]
pub(in crate::config) struct AltAuthFile {
    /// Networks and addresses in which boot media start, such as `10.20.0.0/16`.
    #[schemars(length(min = 1))]
    pub(in crate::config) networks: Typed<Vec<Spanned<String>>>,
    /// The endpoints that messages from there may target.
    #[schemars(length(min = 1))]
    pub(in crate::config) endpoints: Typed<Vec<Spanned<String>>>,
}

/// `[site_system.plain_http]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen"]))]
pub(in crate::config) struct PlainHttpFile {
    /// The address and port for plain HTTP, such as `0.0.0.0:80`.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub(in crate::config) listen: Typed<String>,
    /// Whether its requests are refused, redirected to https, or forwarded unchanged.
    #[schemars(extend("default" = "refuse"))]
    pub(in crate::config) mode: Typed<PlainHttpModeFile>,
}
