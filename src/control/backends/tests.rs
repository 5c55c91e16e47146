//! Backends by address, name and socket; none of them listens.

use super::*;
use crate::backend_health::BackendFault;
use crate::metrics::Metrics;

fn backends() -> (Metrics, Backends) {
    let metrics = Metrics::new().unwrap();
    let backends = Backends::new(metrics.backends.clone());
    (metrics, backends)
}

fn of(live: &Live<Vec<Endpoint>>) -> Vec<String> {
    live.load().iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn name() -> BackendAddress {
    BackendAddress::Host("no-such-host.invalid".to_owned(), 80)
}

/// A backend with a name that resolves to these.
fn resolved(backends: &Backends, to: &[&str]) -> Live<Vec<Endpoint>> {
    let live = backends.addresses("no-such-host.invalid", 80);
    backends.found(name(), to.iter().map(|address| address.parse().unwrap()).collect());
    live
}

#[test]
fn an_address_needs_no_resolver() {
    assert_eq!(of(&backends().1.addresses("127.0.0.1", 80)), ["127.0.0.1:80"]);
}

#[test]
fn a_name_that_does_not_resolve_is_not_fatal() {
    assert!(of(&backends().1.addresses("no-such-host.invalid", 80)).is_empty());
}

#[test]
fn an_address_that_stays_keeps_its_health() {
    let (_, backends) = backends();
    let live = resolved(&backends, &["192.0.2.1:80", "192.0.2.2:80"]);
    let before = live.load();
    backends.found(name(), ["192.0.2.2:80", "192.0.2.3:80"].map(|a| a.parse().unwrap()).into());
    assert_eq!(of(&live), ["192.0.2.2:80", "192.0.2.3:80"]);
    assert!(Arc::ptr_eq(&before[1].health, &live.load()[0].health));
}

#[test]
fn what_resolves_to_nothing_keeps_its_addresses() {
    let (_, backends) = backends();
    let live = resolved(&backends, &["192.0.2.1:80"]);
    backends.found(name(), BTreeSet::new());
    assert_eq!(of(&live), ["192.0.2.1:80"]);
}

#[test]
fn two_site_systems_with_one_backend_share_its_health() {
    let (_, backends) = backends();
    let path = std::path::Path::new("/run/iis");
    assert!(Arc::ptr_eq(&backends.socket(path), &backends.socket(path)));
}

#[tokio::test]
async fn metrics_say_what_was_seen_and_nothing_of_what_was_not() {
    let (metrics, backends) = backends();
    let live = resolved(&backends, &["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"]);
    let now = Instant::now();
    let [one, two, _] = &live.load()[..] else { panic!("three") };
    one.health.answered(200, Duration::from_millis(3), now);
    two.health.unconnected(BackendFault::Unreachable, "refused", now);
    backends.look(&Clock::system());
    let text = metrics.render();
    let up = |address: &str| {
        let wanted = format!("sitegate_backend_up{{address=\"{address}\"");
        let line = text.lines().find(|line| line.starts_with(&wanted))?;
        line.rsplit(' ').next().map(str::to_owned)
    };
    assert_eq!(up("192.0.2.1:80").as_deref(), Some("1"));
    assert_eq!(up("192.0.2.2:80").as_deref(), Some("0"));
    assert_eq!(up("192.0.2.3:80"), None);
}

#[tokio::test]
async fn a_name_without_an_address_is_down_until_it_has_one() {
    let (metrics, backends) = backends();
    let none = "sitegate_backend_up{address=\"none\",backend=\"no-such-host.invalid:80\"} 0";
    let _live = backends.addresses("no-such-host.invalid", 80);
    backends.look(&Clock::system());
    assert!(metrics.render().contains(none));
    resolved(&backends, &["192.0.2.1:80"]);
    backends.look(&Clock::system());
    assert!(!metrics.render().contains("address=\"none\""));
}

#[tokio::test]
async fn nothing_is_left_of_a_backend_that_is_gone() {
    let (metrics, backends) = backends();
    let live = resolved(&backends, &["192.0.2.1:80"]);
    live.load()[0].health.answered(200, Duration::from_millis(3), Instant::now());
    backends.look(&Clock::system());
    assert!(metrics.render().contains("no-such-host"));
    backends.retain(&BTreeSet::new());
    assert!(!metrics.render().contains("no-such-host"));
    assert!(backends.seen().is_empty());
}

#[tokio::test]
async fn the_mean_wait_is_that_of_the_last_minute() {
    let (_, backends) = backends();
    let live = resolved(&backends, &["192.0.2.1:80"]);
    let answered = |ms| {
        live.load()[0].health.answered(200, Duration::from_millis(ms), Instant::now());
    };
    let mean = || backends.seen()[0].first_byte.map(|wait| wait.as_millis());
    assert_eq!(mean(), None);
    backends.look(&Clock::system());
    answered(10);
    answered(30);
    assert_eq!(mean(), Some(20));
    for _ in 0..LOOKS_KEPT {
        backends.look(&Clock::system());
    }
    assert_eq!(mean(), None, "a minute later");
    answered(40);
    assert_eq!(mean(), Some(40));
}
