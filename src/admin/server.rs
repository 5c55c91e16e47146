//! The two listeners, as routers and one function that serves either.
//!
//! The administration listener answers only requests that name this machine, so that no web page
//! elsewhere can read it through somebody's browser.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::denials::{Denials, Filter};
use super::listener::Bounded;
use super::page;
use super::readiness::Readiness;
use super::status::Status;
use crate::clock::Clock;
use crate::log::Recent;
use crate::metrics::Metrics;

/// What the listeners show.
#[derive(Clone)]
pub struct Shown {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether requests are welcome.
    pub readiness: Readiness,
    /// The last refusals.
    pub recent: Recent,
    /// The time, for what is shown as an age.
    pub clock: Clock,
    /// The status of the moment.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
}

/// `/metrics`, `/livez` and `/readyz`: what may leave this machine.
pub fn metrics_router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

/// The same, the page, and what is on it for scripts: `/`, `/api/v1/status`, `/api/v1/denials`.
pub fn admin_router(shown: Shown) -> Router {
    let more = Router::new()
        .route("/", get(page))
        .route("/api/v1/status", get(status))
        .route("/api/v1/denials", get(denials))
        .with_state(shown.clone());
    metrics_router(shown).merge(more).layer(from_fn(confined)).layer(from_fn(names_this_machine))
}

/// Answer on a listener until told to stop.
///
/// # Errors
/// If the listener is lost.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    axum::serve(Bounded::new(listener), router)
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stopped| *stopped).await;
        })
        .await
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let _ = shown.readiness.reasons();
    shown.metrics.set_clock(shown.clock.now().as_microsecond() as f64 / 1e6);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shown.metrics.render()).into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let reasons = shown.readiness.reasons();
    match reasons.is_empty() {
        true => {
            let notes = shown.readiness.notes();
            let lines = notes.iter().map(|note| format!("warning: {note}\n"));
            format!("ready\n{}", lines.collect::<String>()).into_response()
        }
        false => {
            let text = reasons.join("\n") + "\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn status(State(shown): State<Shown>) -> Response {
    Json((shown.status)()).into_response()
}

async fn denials(State(shown): State<Shown>, Query(filter): Query<Filter>) -> Response {
    Json(Denials::of(shown.recent.list(), &filter)).into_response()
}

async fn page(State(shown): State<Shown>, Query(filter): Query<Filter>) -> Response {
    let (status, recent) = ((shown.status)(), shown.recent.list());
    Html(page::render(&status, &recent, &filter, shown.clock.now())).into_response()
}

/// Nothing that is shown is more than it seems to be to a browser, or is kept by one.
async fn confined(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(page::POLICY.as_str()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Host must be a name of this machine, and Origin, where a browser sends one, the same.
async fn names_this_machine(request: Request, next: Next) -> Response {
    let local = |name: header::HeaderName, headers: &HeaderMap| match headers.get(name) {
        Some(value) => value.to_str().ok().is_some_and(is_local),
        None => true,
    };
    let headers = request.headers();
    let one_host = headers.get_all(header::HOST).iter().count() == 1;
    if !one_host || !local(header::HOST, headers) || !local(header::ORIGIN, headers) {
        let text = "this listener answers only to names of this machine\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

fn is_local(text: &str) -> bool {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => text.split(':').next().unwrap_or(text),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for name in ["localhost:9180", "127.0.0.1", "127.0.0.1:9180", "[::1]:9180", "LOCALHOST"] {
            assert!(is_local(name), "{name}");
        }
        for name in ["example.com", "localhost.example.com", "127.0.0.1.example", "null", ""] {
            assert!(!is_local(name), "{name}");
        }
        assert!(is_local("http://localhost:9180") && !is_local("https://evil.example"));
    }
}
