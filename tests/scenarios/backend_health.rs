//! Backend health: the gateway reports failures of a backend that requests find, over every client
//! protocol.

use std::time::Duration;

use rstest::rstest;
use serde_json::Value;

use crate::support::{Gateway, Liar, Nginx, Part, Plan, Then, connect, eventually, free_port};

const PATH: &str = "/SMS_MP/.sms_aut?MPLIST";

fn address(gateway: &Gateway) -> Value {
    gateway.status()["backends"][0]["addresses"][0].clone()
}

fn answer(bytes: &[u8], then: Then) -> (Vec<Part>, Then) {
    (vec![Part::Bytes(bytes.to_vec())], then)
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn a_backend_that_is_not_there_is_down_at_the_first_request(#[case] protocol: &str) {
    let gateway = Plan::to(&format!("http://127.0.0.1:{}", free_port())).start();
    assert_eq!(address(&gateway)["state"], "unknown");
    assert_eq!(gateway.curl(PATH, &[protocol]).status, 502);
    let seen = address(&gateway);
    assert_eq!((&seen["state"], &seen["reason"]), (&"down".into(), &"upstream.unreachable".into()));
    assert!(seen["detail"].as_str().unwrap().contains("refused"), "{seen}");
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn a_backend_that_closes_without_an_answer_is_down_at_the_third(#[case] protocol: &str) {
    let liar = Liar::start(|_, _| (Vec::new(), Then::Close));
    let gateway = liar.plan().start();
    for state in ["unknown", "unknown", "down"] {
        assert_eq!(gateway.curl(PATH, &[protocol]).status, 502);
        // The failure is recorded once the client has its response.
        eventually(state, || address(&gateway)["state"] == state);
    }
    assert_eq!(address(&gateway)["reason"], "upstream.closed");
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn a_backend_that_answers_503_is_down(#[case] protocol: &str) {
    let unavailable = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let liar = Liar::start(|_, _| answer(unavailable, Then::Keep));
    let gateway = liar.plan().start();
    for _ in 0..3 {
        assert_eq!(gateway.curl(PATH, &[protocol]).status, 503);
    }
    let seen = address(&gateway);
    assert_eq!(seen["state"], "down");
    assert_eq!(seen["reason"], "upstream.unavailable");
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn the_access_log_has_upstream_times(#[case] protocol: &str) {
    let slowly = |_: &str, _| {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        (vec![Part::Pause(Duration::from_millis(300)), Part::Bytes(ok)], Then::Keep)
    };
    let gateway = Liar::start(slowly).plan().sections("[limits]\nthreads = 1").start();
    assert_eq!(gateway.curl(PATH, &[protocol]).status, 200);
    assert_eq!(gateway.curl(PATH, &[protocol]).status, 200);
    eventually("both are logged", || gateway.access().len() == 2);
    let [first, second] = &gateway.access()[..] else { panic!("two") };
    for line in [first, second] {
        let part = line["upstream_first_byte_ms"].as_f64().unwrap();
        assert!((250.0..=line["duration_ms"].as_f64().unwrap()).contains(&part), "{line}");
        assert_eq!(line["upstream_status"], 200);
    }
    assert_eq!(first["upstream"], address(&gateway)["address"]);
    assert!(first["upstream_connect_ms"].as_f64().is_some(), "{first}");
    assert_eq!(second["upstream_connect_ms"], Value::Null, "an idle connection was used again");
}

#[test]
fn a_backend_outage_shows_in_log_metrics_and_readiness() {
    let mut nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
    eventually("it is up", || gateway.metric("sitegate_backend_up{") == 1.0);
    nginx.restart(|| {
        for _ in 0..5 {
            assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 502);
        }
        eventually("it is down", || gateway.metric("sitegate_backend_up{") == 0.0);
        let lines = || gateway.log().matches("the backend does not serve requests").count();
        eventually("it is logged", || lines() > 0);
        assert_eq!(lines(), 1, "{}", gateway.log());
        let (_, ready) = gateway.get(gateway.metrics, "/readyz").unwrap();
        assert!(ready.contains("upstream.unreachable"), "{ready}");
    });
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
    assert_eq!(address(&gateway)["state"], "up");
    eventually("it is up again", || gateway.metric("sitegate_backend_up{") == 1.0);
}

#[test]
fn a_lack_of_descriptors_is_not_blamed_on_the_backend() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections("[limits]\nthreads = 1").start();
    let mut wire = connect(&gateway);
    let ask = format!("GET {PATH} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    // Once this connection is accepted, all descriptors below the later limit are in use, so the
    // backend connect fails.
    wire.send(b"GET / HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n");
    assert_eq!(wire.read_answer().0, 403);
    gateway.limit("--nofile=3:");
    wire.send(ask.as_bytes());
    assert_eq!(wire.read_answer().0, 502);
    gateway.limit("--nofile=1000:");
    eventually("it is logged", || gateway.access().len() == 2);
    let line = gateway.access().pop().unwrap();
    assert!(line["detail"].as_str().unwrap().contains("Too many open files"), "{line}");
    assert_eq!(address(&gateway)["state"], "unknown");
}
