//! Who may issue tokens, and under which terms: a policy value, without its keys.
//!
//! Accepts an `iss` only by exact comparison. Never learns anything from a token.

use std::sync::Arc;

use uuid::Uuid;

use crate::purpose::Purpose;

/// Allowed difference of clocks, in seconds: what Microsoft's own validators allow.
const LEEWAY_S: i64 = 300;

const DAY_S: i64 = 86_400;

/// A bulk registration token lives seven days at most, whoever says otherwise.
const REGISTRATION_S_MAX: i64 = 7 * DAY_S;

/// A trusted issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The configured name: a metric label, and the word in logs and headers.
    pub name: Arc<str>,
    /// Whose tokens they are, which decides how an identity is read from them.
    pub kind: IssuerKind,
    /// The exact values of `iss` that are this issuer's.
    pub accepts: Vec<String>,
    /// The values of `aud` that mean this site; a token must have one of them.
    pub audiences: Vec<String>,
    /// How far the clocks may differ, in seconds.
    pub leeway_s: i64,
    /// The longest life of a token, in seconds; `None` for no limit.
    pub lifetime_max_s: Option<i64>,
    /// Whether its tokens may be exchanged for the site's own.
    pub exchange: bool,
}

/// The kinds of issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKind {
    /// A site: Configuration Manager's own tokens, or those of sitegate's site authority.
    Site {
        /// The hierarchy; where it is given, a token's `TenantId` must be it.
        hierarchy: Option<Uuid>,
    },
    /// Microsoft Entra ID.
    Entra {
        /// The one tenant that tokens may be from.
        tenant: Uuid,
    },
    /// Any other OpenID Connect provider.
    Oidc(OidcClaims),
}

/// Which claims of an OpenID Connect provider's tokens name a device and a user. Nothing names
/// either unless it is configured: a provider that also gives tokens to services would otherwise
/// turn each of them into a user.
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
    /// Defaults: audience `urn:sccm:service`, 90 days, which is a client token's whole life.
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

    /// Whether this `iss` is the issuer's, byte for byte.
    pub fn accepts(&self, iss: &str) -> bool {
        self.accepts.iter().any(|a| a == iss)
    }

    /// The tenant that key files with `{tenantid}` in their keys' `issuer` are read for.
    pub(super) fn tenant(&self) -> Option<Uuid> {
        match self.kind {
            IssuerKind::Entra { tenant } => Some(tenant),
            _ => None,
        }
    }

    /// The longest life of a token of this purpose, in seconds.
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
    // `Uuid` writes itself in lower case, as the site does here and nowhere else.
    format!("urn:sccm:oauth2:{hierarchy}")
}
