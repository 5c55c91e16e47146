//! Why a site server refuses a gateway: a closed list. Its codes are in the log, in the response
//! and in docs/site-server.md.
//!
//! Never carries anything that a gateway sent.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::site::store::{JoinError, StoreError};

macro_rules! denials {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $title:literal;)+) => {
        /// Why a site server refuses a gateway.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SiteDenial { $($(#[doc = $doc])+ $variant,)+ }

        impl SiteDenial {
            /// Every denial, in the order of the documentation.
            pub const ALL: &[SiteDenial] = &[$(SiteDenial::$variant,)+];

            /// The code in the log and in the response.
            pub const fn code(self) -> &'static str {
                match self { $(SiteDenial::$variant => $code,)+ }
            }

            /// The HTTP status of the response.
            pub const fn status(self) -> u16 {
                match self { $(SiteDenial::$variant => $status,)+ }
            }

            /// The fault, as a sentence.
            pub const fn title(self) -> &'static str {
                match self { $(SiteDenial::$variant => $title,)+ }
            }
        }
    };
}

denials! {
    /// The request does not have the form that the path expects.
    Malformed "request.malformed" 400 "The request is not in the expected form.";
    /// Rate limit: one address asks too often.
    Rate "request.rate" 429 "Too many requests from this address.";
    /// No such join token.
    JoinUnknown "join.unknown" 403 "The join token is not one of this site's.";
    /// A join token is valid for one use.
    JoinUsed "join.used" 403 "The join token has been used.";
    /// The join token has expired.
    JoinExpired "join.expired" 403 "The join token has expired.";
    /// The join token is for another gateway.
    JoinName "join.name" 403 "The join token is for another gateway.";
    /// No client certificate, or one of no gateway.
    GatewayUnknown "gateway.unknown" 401 "The connection has no certificate of a gateway of this site: it has not joined, or was revoked.";
    /// A host that is not in the join token.
    CertificateHosts "certificate.hosts" 403 "The gateway may not have a certificate for this host.";
    /// A malformed request or an unfit key.
    CertificateRequest "certificate.request" 400 "The certificate request is malformed, or its key is not accepted.";
    /// The site issues no certificates, or cannot do so now.
    CertificateIssue "certificate.issue" 503 "The site issues no certificates, or cannot issue one now.";
    /// Only a gateway with a management point forwards token service requests.
    ServiceRole "service.role" 403 "The gateway has no role with a token service.";
    /// The token service does not run here.
    ServiceAway "service.away" 503 "The token service does not run on this site server.";
    /// The store was restored from a copy.
    BundleUnknown "bundle.unknown" 409 "This site server does not know the gateway's bundle: the store is an older copy.";
    /// The bundle is not one of this site's.
    BundleRefused "bundle.refused" 400 "The gateway's bundle is not of this site.";
    /// The store is unavailable.
    Store "service.store" 503 "The site's store cannot be used now.";
}

/// A denial with a detail for the log.
#[derive(Clone, Debug)]
pub(super) struct ServerRefusal {
    pub denial: SiteDenial,
    pub detail: Cow<'static, str>,
}

impl ServerRefusal {
    pub(super) fn of(denial: SiteDenial, detail: impl Into<Cow<'static, str>>) -> Self {
        ServerRefusal { denial, detail: detail.into() }
    }
}

impl From<SiteDenial> for ServerRefusal {
    fn from(denial: SiteDenial) -> Self {
        ServerRefusal::of(denial, "")
    }
}

impl From<StoreError> for ServerRefusal {
    fn from(error: StoreError) -> Self {
        ServerRefusal::of(SiteDenial::Store, error.to_string())
    }
}

impl From<JoinError> for ServerRefusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Unknown => SiteDenial::JoinUnknown.into(),
            JoinError::Used => SiteDenial::JoinUsed.into(),
            JoinError::Expired => SiteDenial::JoinExpired.into(),
            JoinError::Name => SiteDenial::JoinName.into(),
            JoinError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ServerRefusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.denial.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let body = json!({ "code": self.denial.code(), "error_description": self.denial.title() });
        let mut response = (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let soon = HeaderValue::from_static("5");
            response.headers_mut().insert(RETRY_AFTER, soon);
        }
        response
    }
}
