//! The site's store: registrations and grants per second that it confirms, and the processor time
//! of each in this process, with SQLite and with PostgreSQL (if it is installed).
//!
//! `cargo bench --bench store -- [--seconds N]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up shall stop, and says what it measured"
)]

#[allow(dead_code, reason = "the tests do more with it")]
#[path = "../tests/scenarios/support/postgres.rs"]
mod postgres;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postgres::Postgres;
use sitegate::purpose::Purpose;
use sitegate::site::store::{
    Grant, PostgresUrl, Proof, Registration, Store, StorePlace, TokenRef, Via,
};
use uuid::Uuid;

/// Concurrent clients.
const CLIENTS: [usize; 2] = [1, 16];

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--seconds").skip(1);
    let seconds: f64 = args.next().map_or(2.0, |text| text.parse().unwrap());
    // On the build's disk, not on a temporary file system in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    measure("SQLite", &StorePlace::Sqlite(dir.path().join("store/site.db")), seconds).await;
    if !Path::new("/usr/lib/postgresql").exists() {
        return println!("PostgreSQL is not installed");
    }
    let server = Postgres::durable();
    let url = PostgresUrl::parse(&server.url()).unwrap();
    measure("PostgreSQL", &StorePlace::Postgres(url), seconds).await;
}

async fn measure(name: &str, place: &StorePlace, seconds: f64) {
    let now = Timestamp::now();
    let store = Store::open(place, now).await.unwrap();
    for clients in CLIENTS {
        run(&format!("{name}, registrations, {clients} at once"), clients, seconds, || {
            let store = store.clone();
            async move { enroll(&store, now).await }
        })
        .await;
        let device = &enroll(&store, now).await;
        run(&format!("{name}, grants, {clients} at once"), clients, seconds, || {
            let (store, device) = (store.clone(), device.clone());
            async move { grant(&store, &device, now).await }
        })
        .await;
    }
    store.close().await;
}

/// Repeats the work for a while, with this many at once; prints the rate and the cost.
async fn run<T, F>(what: &str, clients: usize, seconds: f64, work: impl Fn() -> F)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (busy, began) = (processor_time(), Instant::now());
    let mut done = 0.0;
    while began.elapsed().as_secs_f64() < seconds {
        let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(work())).collect();
        for task in tasks {
            task.await.unwrap();
            done += 1.0;
        }
    }
    let each = (processor_time() - busy).as_secs_f64() * 1e6 / done;
    let rate = done / began.elapsed().as_secs_f64();
    let cores = 1e6 / each;
    println!("{what:<40} {rate:>8.0}/s {each:>8.0} µs of a core: {cores:>6.0}/s for a whole one");
}

async fn enroll(store: &Store, now: Timestamp) -> String {
    let (key, id) = (Uuid::new_v4().to_string(), format!("GUID:{}", Uuid::new_v4()).to_uppercase());
    let registration = Registration {
        thumbprint: &key,
        jwk: r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        claimed: None,
        proven_by: None,
        via: Via::BulkToken,
        token: Some(TokenRef { issuer: "site", id: "bulk", issued: None }),
        uses_max: None,
        entra: None,
        certificate: None,
        fresh_id: &id,
        approve: true,
        accept_claims: false,
        address: None,
        client: None,
        returning: false,
        now,
    };
    store.register(&registration, "bench").await.expect("registered");
    id
}

async fn grant(store: &Store, device: &str, now: Timestamp) {
    let (id, jti) = (Uuid::new_v4(), Uuid::new_v4().to_string());
    let grant = Grant {
        id,
        issuer: "site",
        purpose: Purpose::Client,
        device: Some(device),
        user: None,
        audience: "urn:site",
        issued: now,
        expires: now + Duration::from_secs(86400),
        bound_to: None,
        scope: None,
        uses_max: None,
        proof: Some(Proof { client: device, jti: &jti, until: now + Duration::from_secs(300) }),
        subject_token: None,
        renews: false,
    };
    store.grant(&grant, device).await.expect("granted");
}

/// User and system time of this process so far. It includes SQLite's threads, but not the
/// PostgreSQL server.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name before may contain spaces; the times are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
