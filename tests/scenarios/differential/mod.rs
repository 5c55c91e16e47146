//! Differential test: the same requests and responses over every client protocol and backend
//! transport, with and without TLS. Client, backend and log must see the same, except as the
//! protocols require.
//!
//! Cases come from a printed seed: `SITEGATE_SEED=… SITEGATE_CELLS=…` repeats or multiplies them.

mod backend;
mod case;
mod client;
mod foreign;

use std::collections::BTreeMap;

use crate::support::{CARRIERS, Carrier, Gateway, Plan, eventually, free_port};
use backend::Backend;
use case::{Case, Upload};
use client::{Client, End, FOREIGN, Seen, WAYS, Way};
use foreign::Foreign;

/// The default number of exchanges.
const CELLS: usize = 10_000;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A gateway that passes everything below `/d/` in both directions, over TLS and plain HTTP.
fn gateway(backend: &Backend, clear: u16) -> Gateway {
    let methods = r#"["GET", "HEAD", "PUT", "POST", "PROPFIND", "BITS_POST", "CCM_POST"]"#;
    let route = format!(
        "[[site_system.route]]\npath = \"/d/\"\nrequire = \"anonymous\"\nmethods = {methods}\n\
         websocket = true\n"
    );
    let (url, keys) = backend.address();
    let plain =
        format!("plain_http = {{ mode = \"pass\", listen = \"127.0.0.1:{clear}\" }}\n{keys}");
    Plan::to(&url).site_system(&plain).after(&route).start()
}

/// The parts of a response that must not depend on the way of its request.
fn comparable(case: &Case, way: Way, seen: &Seen) -> Seen {
    let (mut seen, own) = (seen.clone(), seen.code());
    if let Some(code) = &own {
        // The refusal's body contains the request id.
        seen.body = code.clone().into_bytes();
        seen.fields.remove("content-length");
    }
    for own in ["connection", "transfer-encoding", "keep-alive", "x-request-id"] {
        seen.fields.remove(own);
    }
    if !case.answer.date || own.is_some() {
        let date = seen.fields.remove("date");
        assert!(date.is_some_and(|date| date.len() == 1), "{case:?} {way:?}: {seen:?}");
    }
    seen
}

fn compare(case: &Case, carrier: Carrier, all: &[(Way, Seen)], faults: &mut Vec<String>) {
    let Some((_, first)) = all.iter().find(|(way, _)| *way == Way::Tls11) else { return };
    let (expected, own) = (comparable(case, Way::Tls11, first), first.code().is_some());
    for (way, seen) in all {
        let mut found = comparable(case, *way, seen);
        let mut expected = expected.clone();
        match way {
            Way::Nghttp => {
                // nghttp reports the length of a body, and fields as UTF-8.
                for of in [&mut found, &mut expected] {
                    of.body = vec![0; if own { 0 } else { of.body.len() }];
                    of.fields.remove("x-odd_name");
                    for once in ["content-length", "date"].iter().filter(|_| own) {
                        of.fields.remove(*once);
                    }
                }
            }
            // httpx does not report interim responses.
            Way::Httpx11 | Way::Httpx2 => expected.interims.clear(),
            _ => {}
        }
        if way.is_old() {
            assert!(found.interims.is_empty(), "{case:?}: HTTP/1.0 has no interim answers");
            found.interims.clone_from(&expected.interims);
            // An HTTP/1.0 response without a length ends with the connection, even if it was cut
            // off.
            if !found.fields.contains_key("content-length") && found.end == End::Whole {
                found.end = expected.end;
            }
        }
        if found != expected {
            faults.push(format!(
                "{carrier:?} {way:?}: {case:?}\n  as HTTP/1.1: {expected:?}\n  here: {found:?}"
            ));
        }
    }
    if let Err(what) = case.judge(first.status, &first.body, first.end, first.code().as_deref()) {
        faults.push(format!("{carrier:?}: {case:?}: {what}: {first:?}"));
    }
}

/// Returns the log fields of each request by path.
fn logged(gateway: &Gateway, count: usize) -> BTreeMap<String, serde_json::Value> {
    eventually("each request has its line", || gateway.access().len() >= count);
    let lines = gateway.access().into_iter();
    lines.map(|line| (line["path"].as_str().unwrap_or_default().to_owned(), line)).collect()
}

fn compare_logs(
    cases: &[Case],
    carrier: Carrier,
    log: &BTreeMap<String, serde_json::Value>,
    faults: &mut Vec<String>,
) {
    for (n, case) in cases.iter().enumerate() {
        let line = |way: Way| log.get(&path(n, way));
        let told = |line: &serde_json::Value| {
            let mut told: Vec<String> =
                ["method", "status", "decision", "reason", "upstream", "upstream_status", "sent"]
                    .map(|key| format!("{key} {}", line[key]))
                    .to_vec();
            // On an early response, the number of body bytes read depends on timing.
            if !case.answer.early {
                told.push(format!("received {}", line["received"]));
            }
            told
        };
        let Some(first) = line(Way::Tls11).map(told) else {
            faults.push(format!("{case:?}: no line"));
            continue;
        };
        for way in ways(n, case, carrier) {
            if line(way).map(told).as_ref() != Some(&first) {
                faults.push(format!(
                    "{way:?}: {case:?}\n  as HTTP/1.1: {first:?}\n  here: {:?}",
                    line(way)
                ));
            }
        }
    }
}

/// The ways over which a case runs. Foreign clients are slow to start, and run only some of the
/// cases.
fn ways(n: usize, case: &Case, carrier: Carrier) -> Vec<Way> {
    let others = n.is_multiple_of(6) && carrier == Carrier::Tcp;
    let all = WAYS.into_iter().chain(FOREIGN.into_iter().filter(|_| others));
    all.filter(|way| case.goes_by(*way)).collect()
}

fn path(n: usize, way: Way) -> String {
    format!("/d/{n}-{way:?}")
}

async fn run(carrier: Carrier, cases: &[Case]) -> Vec<String> {
    let (backend, clear) = (Backend::start(carrier, cases.to_vec()).await, free_port());
    let gateway = tokio::task::block_in_place(|| gateway(&backend, clear));
    let mut clients: Vec<Client> =
        WAYS.iter().map(|way| Client::new(*way, &gateway, clear)).collect();
    let (mut faults, mut asked) = (Vec::new(), 0);
    let mut foreign = (carrier == Carrier::Tcp).then(|| Foreign::new(&gateway));
    for (n, case) in cases.iter().enumerate() {
        let mut all = Vec::new();
        for way in ways(n, case, carrier) {
            let path = path(n, way);
            let seen = match clients.iter_mut().find(|client| client.way == way) {
                Some(client) => client.ask(case, &path).await,
                None => {
                    tokio::task::block_in_place(|| foreign.as_mut().unwrap().ask(way, case, &path))
                }
            };
            all.push((way, seen));
        }
        asked += all.len();
        compare(case, carrier, &all, &mut faults);
        compare_requests(n, case, carrier, &backend, &mut faults);
    }
    let log = tokio::task::block_in_place(|| logged(&gateway, asked));
    compare_logs(cases, carrier, &log, &mut faults);
    faults
}

/// Compares the requests that the backend received over each way.
fn compare_requests(
    n: usize,
    case: &Case,
    carrier: Carrier,
    backend: &Backend,
    faults: &mut Vec<String>,
) {
    let got = |way: Way| backend.got(&path(n, way));
    let Some(first) = got(Way::Tls11) else {
        faults.push(format!("{case:?}: nothing came"));
        return;
    };
    for way in ways(n, case, carrier) {
        let Some(mut here) = got(way) else {
            faults.push(format!("{way:?}: {case:?}: nothing came"));
            continue;
        };
        let mut expected = first.clone();
        if way == Way::Nghttp {
            // nghttp sends content codings of its own.
            here.fields.remove("accept-encoding");
        }
        if way.is_old() {
            // RFC 9110 §10.1.1.
            expected.fields.remove("expect");
        }
        if case.may_be_repeated() && here.times.max(expected.times) <= 2 {
            // The gateway retries it if the backend connection was reused.
            here.times = expected.times;
        }
        if case.answer.early {
            // The backend may or may not have read on.
            (here.body, expected.body) = (Vec::new(), Vec::new());
        }
        if here != expected {
            faults
                .push(format!("{way:?}: {case:?}\n  as HTTP/1.1: {expected:?}\n  here: {here:?}"));
        }
    }
}

#[test]
fn the_protocol_of_a_client_or_backend_changes_no_outcome() {
    let seed = number("SITEGATE_SEED", 1) as u64;
    let cells = number("SITEGATE_CELLS", CELLS);
    let cases = case::generate(seed, cells, CARRIERS.len());
    println!("SITEGATE_SEED={seed}: {} cases, at least {cells} exchanges", cases.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let faults: Vec<String> = runtime.block_on(async {
        let runs = CARRIERS.map(|carrier| {
            let cases = cases.clone();
            tokio::spawn(async move { run(carrier, &cases).await })
        });
        let mut faults = Vec::new();
        for run in runs {
            faults.extend(run.await.unwrap());
        }
        faults
    });
    let shown: Vec<_> = faults.iter().take(20).collect();
    assert!(faults.is_empty(), "{} faults, of which some: {shown:#?}", faults.len());
}

#[test]
fn the_cases_have_every_kind_in_them() {
    let cases = case::generate(1, CELLS, CARRIERS.len());
    assert!(cases.len() > 600, "{}", cases.len());
    let some = |what: &str, is: &dyn Fn(&Case) -> bool| {
        let count = cases.iter().filter(|case| is(case)).count();
        assert!(count > 10, "{what}: {count}");
    };
    some("HEAD", &|case| case.method == "HEAD");
    some("PROPFIND", &|case| case.method == "PROPFIND");
    some("chunked", &|case| matches!(case.upload, Upload::Chunked(_)));
    some("expecting", &|case| matches!(case.upload, Upload::Expected(_)));
    some("early", &|case| case.answer.early);
    some("slow", &|case| case.answer.pieces > 1);
    some("switched", &|case| case.switch == Some(true));
    some("not switched", &|case| case.switch == Some(false));
    some("interim", &|case| !case.answer.interims.is_empty());
    some("faults", &|case| case.answer.fault.is_some());
}
