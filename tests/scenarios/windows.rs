//! Windows authentication is bound to a connection: many clients at once, and no client gets the
//! identity of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sitegate_lab::ntlm::{HELLO, challenge, proof};
use sitegate_lab::windows::{IDENTITY, NOBODY, WindowsBackend};
use sitegate_lab::{SimAnswer, SimClient, SimRequest, Trust};

use crate::support::{Gateway, Plan, crowd};

const CLIENTS: u64 = 300;
/// The minimum of requests of all clients: `make crowds` runs all, a part is enough for every day.
fn requests_min() -> u64 {
    if crowd::full() { 100_000 } else { 20_000 }
}

/// The rounds of each client after its first authentication. Some take several requests.
fn rounds() -> u64 {
    requests_min() / CLIENTS + 6
}

const POLICY: &str = "/SMS_MP_WindowsAuth/.sms_pol?x";

/// The observations of all clients.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    as_themselves: AtomicU64,
    as_nobody: AtomicU64,
}

impl Seen {
    /// Checks that a response names this user or no user. A response from an open route must name
    /// no user: it uses a connection that others use next.
    fn check(&self, user: &str, open: bool, answer: &SimAnswer) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let who = answer.field(IDENTITY).unwrap_or("no answer of the backend's");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(who, body, "{user}");
        match who {
            NOBODY => self.as_nobody.fetch_add(1, Ordering::Relaxed),
            _ => {
                assert!(who == user && !open, "{user} was answered as {who}");
                self.as_themselves.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// The three legs; the last response is for the proven user.
async fn authenticate(client: &mut SimClient, user: &str, seen: &Seen) {
    let leg = |said: &str| SimRequest::get(POLICY).field("Authorization", said);
    let second = client.fetch(&leg(HELLO)).await.unwrap();
    seen.check(user, false, &second);
    assert_eq!(second.status, 401);
    let told = second.field("www-authenticate").and_then(challenge).unwrap();
    let third = client.fetch(&leg(&proof(user, told))).await.unwrap();
    seen.check(user, false, &third);
    assert_eq!((third.status, third.field(IDENTITY)), (200, Some(user)), "{user}");
}

async fn work(mut client: SimClient, number: u64, token: Arc<str>, seen: Arc<Seen>) {
    let user = format!("user{number}");
    authenticate(&mut client, &user, &seen).await;
    for round in 0..rounds() {
        // Each client has its own order.
        match (round * 7 + number * 13) % 9 {
            0 | 1 => {
                let open = SimRequest::get("/SMS_MP/.sms_aut?MPLIST");
                seen.check(&user, true, &client.fetch(&open).await.unwrap());
            }
            2 => {
                // A credential that would authenticate a shared connection is removed.
                let open = SimRequest::get("/SMS_MP/.sms_aut?MPLIST").field("Authorization", HELLO);
                seen.check(&user, true, &client.fetch(&open).await.unwrap());
            }
            3 => {
                let open = SimRequest::get("/SMS_MP/.sms_pol?x").bearer(&token);
                seen.check(&user, true, &client.fetch(&open).await.unwrap());
            }
            4 if round % 3 == 0 => {
                // A new connection is unauthenticated, regardless of the last client.
                client.close();
                let first = client.fetch(&SimRequest::get(POLICY)).await.unwrap();
                seen.check(&user, false, &first);
                assert_eq!((first.status, first.field(IDENTITY)), (401, Some(NOBODY)));
                authenticate(&mut client, &user, &seen).await;
            }
            5 if round % 5 == 0 => {
                // The client disconnects in the middle of the three legs.
                let hello = SimRequest::get(POLICY).field("Authorization", HELLO);
                seen.check(&user, false, &client.fetch(&hello).await.unwrap());
                client.close();
                authenticate(&mut client, &user, &seen).await;
            }
            _ => {
                let own = client.fetch(&SimRequest::get(POLICY)).await.unwrap();
                seen.check(&user, false, &own);
                // The client may get a new backend connection, never another client's.
                if own.status == 401 {
                    authenticate(&mut client, &user, &seen).await;
                }
            }
        }
    }
}

#[test]
fn clients_with_windows_authentication_are_never_confused() {
    let backend = WindowsBackend::start().unwrap();
    let gateway = Plan::to(&format!("http://{}", backend.address()))
        .site_system("windows_auth = true")
        .start();
    let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Trust::new(&root, provider).unwrap();
    let token: Arc<str> = gateway.token().into();
    let address = ([127, 0, 0, 1], gateway.port).into();
    let seen = Arc::<Seen>::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let client = SimClient::new(address, Gateway::HOST, &trust);
            all.spawn(work(client, number, token.clone(), seen.clone()));
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (requests, own) = (count(&seen.requests), count(&seen.as_themselves));
    println!(
        "{requests} requests of {CLIENTS} clients: {own} answered as themselves, {} as nobody; \
         {} connections to the backend",
        count(&seen.as_nobody),
        backend.connections()
    );
    assert!(requests >= requests_min(), "{requests}");
    assert!(own > requests / 3, "{own}");
}
