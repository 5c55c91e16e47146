//! Why a site server refuses a gateway: a closed list, whose codes are in the log, in the answer, and
//! in docs/site-server.md.
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

            /// The code in the log and in the answer.
            pub const fn code(self) -> &'static str {
                match self { $(SiteDenial::$variant => $code,)+ }
            }

            /// The HTTP status of the answer.
            pub const fn status(self) -> u16 {
                match self { $(SiteDenial::$variant => $status,)+ }
            }

            /// What happened, as a sentence.
            pub const fn title(self) -> &'static str {
                match self { $(SiteDenial::$variant => $title,)+ }
            }
        }
    };
}

denials! {
    /// Not what the path reads.
    Malformed "request.malformed" 400 "The request is not in the form that is read here.";
    /// One address asks too often.
    Rate "request.rate" 429 "Too many requests from this address.";
    /// There is no such join token.
    JoinUnknown "join.unknown" 403 "The join token is not one of this site's.";
    /// A join token is good once.
    JoinUsed "join.used" 403 "The join token has been used.";
    /// Its time is over.
    JoinExpired "join.expired" 403 "The join token has expired.";
    /// It was made for another gateway.
    JoinName "join.name" 403 "The join token is for another gateway.";
    /// No certificate, or one of no gateway.
    GatewayUnknown "gateway.unknown" 401 "The connection shows no gateway of this site: it has not joined, or was revoked.";
    /// A host that the join token did not name.
    CertificateHosts "certificate.hosts" 403 "The gateway may not be addressed by such a host.";
    /// Not a request with a fit key.
    CertificateRequest "certificate.request" 400 "The certificate request is broken, or its key is not fit.";
    /// The site issues no certificates, or cannot now.
    CertificateIssue "certificate.issue" 503 "The site issues no certificate now.";
    /// A gateway without a management point passes nothing on.
    ServiceRole "service.role" 403 "The gateway has no role that clients get tokens from.";
    /// There is no token service here.
    ServiceAway "service.away" 503 "The token service does not run here.";
    /// The store was restored from a copy.
    BundleUnknown "bundle.unknown" 409 "The gateway has a bundle that this site server does not know of: the store is an older copy.";
    /// Not one of this site's.
    BundleRefused "bundle.refused" 400 "The bundle that the gateway has is not one of this site's.";
    /// The store cannot be used.
    Store "service.store" 503 "The site's store cannot be used now.";
}

/// A denial, and more of it for the log.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub denial: SiteDenial,
    pub detail: Cow<'static, str>,
}

impl Refused {
    pub(super) fn of(denial: SiteDenial, detail: impl Into<Cow<'static, str>>) -> Self {
        Refused { denial, detail: detail.into() }
    }
}

impl From<SiteDenial> for Refused {
    fn from(denial: SiteDenial) -> Self {
        Refused::of(denial, "")
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::of(SiteDenial::Store, error.to_string())
    }
}

impl From<JoinError> for Refused {
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

impl IntoResponse for Refused {
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
