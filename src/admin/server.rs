//! The routers of the metrics and admin listeners, and the function that serves them.
//!
//! The admin listener answers only requests with a local Host and Origin, so that no web page
//! elsewhere can read it through a user's browser (DNS rebinding).

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

/// The data behind the listeners.
#[derive(Clone)]
pub struct AdminState {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the process should receive requests.
    pub readiness: Readiness,
    /// The recent denials.
    pub recent: Recent,
    /// The clock, for ages.
    pub clock: Clock,
    /// The current status.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
}

/// `/metrics`, `/livez` and `/readyz`: the endpoints that may be reachable from other hosts.
pub fn metrics_router(shown: AdminState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

/// The same, plus the page and its JSON API: `/`, `/api/v1/status`, `/api/v1/denials`.
pub fn admin_router(shown: AdminState) -> Router {
    let more = Router::new()
        .route("/", get(page))
        .route("/api/v1/status", get(status))
        .route("/api/v1/denials", get(denials))
        .with_state(shown.clone());
    metrics_router(shown).merge(more).layer(from_fn(confined)).layer(from_fn(names_this_machine))
}

/// Serves a listener until stopped.
///
/// # Errors
/// If the listener fails.
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

async fn metrics(State(shown): State<AdminState>) -> Response {
    let _ = shown.readiness.reasons();
    shown.metrics.process.clock(shown.clock.now().as_microsecond() as f64 / 1e6);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shown.metrics.render()).into_response()
}

async fn readyz(State(shown): State<AdminState>) -> Response {
    let reasons = shown.readiness.reasons();
    if reasons.is_empty() {
        let notes = shown.readiness.notes();
        let lines = notes.iter().map(|note| format!("warning: {note}\n"));
        format!("ready\n{}", lines.collect::<String>()).into_response()
    } else {
        let text = reasons.join("\n") + "\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn status(State(shown): State<AdminState>) -> Response {
    Json((shown.status)()).into_response()
}

async fn denials(State(shown): State<AdminState>, Query(filter): Query<Filter>) -> Response {
    Json(Denials::of(shown.recent.list(), &filter)).into_response()
}

async fn page(State(shown): State<AdminState>, Query(filter): Query<Filter>) -> Response {
    let (status, recent) = ((shown.status)(), shown.recent.list());
    Html(page::render(&status, &recent, &filter, shown.clock.now())).into_response()
}

/// Adds security headers: browsers neither sniff content types nor store responses.
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

/// Requires a local Host and, if a browser sends one, a local Origin.
async fn names_this_machine(request: Request, next: Next) -> Response {
    let local = |name: header::HeaderName, headers: &HeaderMap| match headers.get(name) {
        Some(value) => value.to_str().ok().is_some_and(is_local),
        None => true,
    };
    let headers = request.headers();
    let one_host = headers.get_all(header::HOST).iter().count() == 1;
    if !one_host || !local(header::HOST, headers) || !local(header::ORIGIN, headers) {
        let text = "this listener accepts only this machine's names in Host\n";
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
