//! Tests for shards that end by themselves.

use super::*;
use crate::live::live;

/// Serves no connection, and panics in its periodic cleanup.
struct Broken;

impl Serve for Broken {
    async fn serve(&self, _: Conn, _: &ShutdownWatch) {}

    fn tidy(&self) {
        panic!("it cannot be tidied");
    }
}

#[tokio::test]
async fn a_front_reports_a_panicked_shard() {
    let (_limits, limits) = live(Limits::default());
    let (_bindings, bindings) = live(Vec::new());
    let (_shutdown, shutdown) = tokio::sync::watch::channel(false);
    let guard = ThreadGuard::default();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let params = FrontParams {
        shards: 2,
        limits,
        bindings,
        refuse_tls: crate::tls::refusing(provider.into()).unwrap(),
        metrics: Arc::new(Metrics::new().unwrap()),
        on_refusal: Arc::new(|_, _| {}),
        shutdown,
        guard: guard.clone(),
    };
    let _front = Front::start(params, || Arc::new(Broken)).unwrap();
    let why = guard.lost().await;
    assert!(why.ends_with("panicked: it cannot be tidied"), "{why}");
}
