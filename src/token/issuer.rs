//! The policy for a trusted issuer of tokens, without its keys.
//!
//! Accepts an `iss` only by exact comparison. Never learns anything from a token.

use std::sync::Arc;

use uuid::Uuid;

use crate::purpose::Purpose;

/// Allowed clock skew, in seconds: the value of Microsoft's own validators.
const LEEWAY_S: i64 = 300;

const DAY_S: i64 = 86_400;

/// A bulk registration token lives seven days at most, regardless of the configuration.
const REGISTRATION_S_MAX: i64 = 7 * DAY_S;

/// A trusted issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The configured name: a metric label, and the name in logs and headers.
    pub name: Arc<str>,
    /// The kind, which decides how an identity is read from its tokens.
    pub kind: IssuerKind,
    /// The exact values of `iss` that are this issuer's.
    pub accepts: Vec<String>,
    /// The values of `aud` that denote this site; a token must have one of them.
    pub audiences: Vec<String>,
    /// The allowed clock skew, in seconds.
    pub leeway_s: i64,
    /// The longest lifetime of a token, in seconds; `None` for no limit.
    pub lifetime_max_s: Option<i64>,
    /// Whether its tokens may be exchanged for the site's own.
    pub exchange: bool,
}

/// The kinds of issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKind {
    /// A site: Configuration Manager's own tokens, or those of sitegate's site authority.
    Site {
        /// The hierarchy; if given, a token's `TenantId` must equal it.
        hierarchy: Option<Uuid>,
    },
    /// Microsoft Entra ID.
    Entra {
        /// The only tenant that tokens may be from.
        tenant: Uuid,
    },
    /// Any other OpenID Connect provider.
    Oidc(OidcClaims),
}

/// The claims of an OpenID Connect provider's tokens that name a device and a user. There is no
/// default: a provider that also issues tokens to services would otherwise turn each service into a
/// user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OidcClaims {
    /// The claim with the device's id.
    pub device: Option<String>,
    /// The claim with the user's id.
    pub user: Option<String>,
}

impl Issuer {
    /// Tokens of a site. `hierarchy` makes Configuration Manager's own `iss` acceptable, `issuers`
    /// adds others, such as the metadata URL of sitegate's token service.
    ///
    /// Defaults: audience `urn:sccm:service`, 90 days, the full lifetime of a client token.
    pub fn site(name: &str, hierarchy: Option<Uuid>, issuers: Vec<String>) -> Self {
        let mut accepts = issuers;
        accepts.extend(hierarchy.map(|h| site_issuer(&h)));
        Issuer {
            audiences: vec!["urn:sccm:service".to_owned()],
            lifetime_max_s: Some(90 * DAY_S),
            ..Issuer::new(name, IssuerKind::Site { hierarchy }, accepts)
        }
    }

    /// Tokens of one Entra tenant, of either version; `issuers` adds those of national clouds.
    ///
    /// Defaults: audience `https://ConfigMgrService`, two days, since tokens under continuous
    /// access evaluation live up to 28 hours.
    pub fn entra(name: &str, tenant: Uuid, issuers: Vec<String>) -> Self {
        let mut accepts = issuers;
        accepts.push(format!("https://sts.windows.net/{tenant}/"));
        accepts.push(format!("https://login.microsoftonline.com/{tenant}/v2.0"));
        Issuer {
            audiences: vec!["https://ConfigMgrService".to_owned()],
            lifetime_max_s: Some(2 * DAY_S),
            ..Issuer::new(name, IssuerKind::Entra { tenant }, accepts)
        }
    }

    /// Tokens of another OpenID Connect provider.
    ///
    /// Defaults: no audience, so that nothing is accepted until one is configured; one day; not
    /// exchanged for the site's tokens.
    pub fn oidc(name: &str, issuer: &str, claims: OidcClaims) -> Self {
        Issuer {
            lifetime_max_s: Some(DAY_S),
            exchange: false,
            ..Issuer::new(name, IssuerKind::Oidc(claims), vec![issuer.to_owned()])
        }
    }

    fn new(name: &str, kind: IssuerKind, accepts: Vec<String>) -> Self {
        Issuer {
            name: name.into(),
            kind,
            accepts,
            audiences: Vec::new(),
            leeway_s: LEEWAY_S,
            lifetime_max_s: None,
            exchange: true,
        }
    }

    /// Whether this `iss` belongs to the issuer, byte for byte.
    pub fn accepts(&self, iss: &str) -> bool {
        self.accepts.iter().any(|a| a == iss)
    }

    /// The tenant that replaces `{tenantid}` in the `issuer` of keys in key files.
    pub(super) fn tenant(&self) -> Option<Uuid> {
        match self.kind {
            IssuerKind::Entra { tenant } => Some(tenant),
            _ => None,
        }
    }

    /// The longest lifetime of a token of this purpose, in seconds.
    pub(super) fn lifetime_max_s(&self, purpose: Purpose) -> Option<i64> {
        match purpose {
            Purpose::Registration => {
                Some(self.lifetime_max_s.unwrap_or(i64::MAX).min(REGISTRATION_S_MAX))
            }
            _ => self.lifetime_max_s,
        }
    }
}

/// Configuration Manager's own `iss` for a hierarchy.
pub fn site_issuer(hierarchy: &Uuid) -> String {
    // `Uuid` formats in lower case, as the site does here and nowhere else.
    format!("urn:sccm:oauth2:{hierarchy}")
}
