//! Remote keys over days: an issuer that rotates, fails, publishes garbage and recovers, in virtual
//! time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::clock::second;
use crate::control::fetch::Document;
use crate::token::{SignerKind, TokenSigner, jwks};

/// A key set and its `max-age`, or a fault.
type Answer = Result<(String, Option<u64>), FetchFault>;

/// An issuer with a scripted answer.
#[derive(Clone)]
struct Script {
    answer: Arc<Mutex<Answer>>,
    fetches: Arc<AtomicUsize>,
    latency: Duration,
}

impl Provides for Script {
    async fn fetch(&self) -> Result<Published, FetchError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.latency).await;
        let answer = self.answer.lock().unwrap().clone();
        let (keys, age) = answer.map_err(|fault| FetchError::new(fault, "as told"))?;
        let document =
            Document { body: keys.into(), max_age: age.map(Duration::from_secs), date: None };
        Ok(Published { from: "https://id.example/keys".into(), document })
    }
}

impl Script {
    fn new(keys: &str, age: Option<u64>) -> Script {
        Script {
            answer: Arc::new(Mutex::new(Ok((keys.to_owned(), age)))),
            fetches: Arc::default(),
            latency: Duration::from_millis(50),
        }
    }

    fn says(&self, answer: Result<(&str, Option<u64>), FetchFault>) {
        *self.answer.lock().unwrap() = answer.map(|(keys, age)| (keys.to_owned(), age));
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn key() -> String {
    let key = TokenSigner::generate(SignerKind::P256).unwrap();
    jwks([&TokenSigner::from_pkcs8(&key, None).unwrap()]).to_string()
}

const INTERVAL: Duration = Duration::from_secs(30);

/// The keys of an issuer, with the task that keeps them; dropping the guards ends it.
struct Issuer {
    script: Script,
    view: RemoteView,
    faults: Arc<Mutex<Vec<FetchFault>>>,
    state: Arc<tempfile::TempDir>,
    _stop: watch::Sender<bool>,
    _tasks: tokio::task::JoinSet<()>,
}

fn issuer_in(state: Arc<tempfile::TempDir>, script: Script, refresh: Option<Duration>) -> Issuer {
    let faults: Arc<Mutex<Vec<FetchFault>>> = Arc::default();
    let seen = faults.clone();
    let on_fetch: OnFetch = Arc::new(move |_, fetched| {
        if let Fetched::Failed(fault) = fetched {
            seen.lock().unwrap().push(fault);
        }
    });
    let params = RemoteParams {
        name: "idp".into(),
        provider: script.clone(),
        state: state.path().to_owned(),
        refresh,
        refetch_interval: INTERVAL,
        clock: Clock::manual(second(1_790_000_000)).0,
        on_keys: Arc::new(|_, _, _| {}),
        on_fetch,
    };
    let (task, view) = RemoteKeys::with(params, "here".to_owned());
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task.run(stopped));
    Issuer { script, view, faults, state, _stop: stop, _tasks: tasks }
}

fn issuer(script: Script, refresh: Option<Duration>) -> Issuer {
    issuer_in(Arc::new(tempfile::tempdir().unwrap()), script, refresh)
}

impl Issuer {
    fn keys(&self) -> usize {
        self.view.keys.peek(KeySet::len)
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_ahead_of_the_age_that_the_issuer_gives_them() {
    for (refresh, max_age, age) in [
        (None, Some(7200), 7200),
        (None, None, 3600),
        (None, Some(1), 300),
        (Some(100), Some(7200), 100),
    ] {
        let issuer = issuer(Script::new(&key(), max_age), refresh.map(Duration::from_secs));
        pass(1).await;
        assert_eq!((issuer.script.fetches(), issuer.keys()), (1, 1));
        pass(age * 7 / 10 - 2).await;
        assert_eq!(issuer.script.fetches(), 1, "not before");
        pass(age / 10 + 2).await;
        assert_eq!(issuer.script.fetches(), 2, "and not after {age} s");
        assert_eq!(issuer.view.keys.generation(), 1, "what is the same is not published again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_outage_of_a_day_keeps_its_keys() {
    let issuer = issuer(Script::new(&key(), None), None);
    pass(1).await;
    let known = issuer.view.keys.load();
    issuer.script.says(Err(FetchFault::Unreachable));
    pass(86_400).await;
    assert!(Arc::ptr_eq(&known, &issuer.view.keys.load()));
    let tries = issuer.script.fetches();
    assert!((200..700).contains(&tries), "{tries} tries in a day, every 5 minutes at most");
    let other = key();
    issuer.script.says(Ok((&other, None)));
    pass(301).await;
    assert!(!Arc::ptr_eq(&known, &issuer.view.keys.load()), "it is noticed when it is back");
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_one_fetch_per_interval() {
    let issuer = issuer(Script::new(&key(), None), None);
    // Right after a scheduled fetch, which no request asked for.
    pass(1).await;
    issuer.script.says(Ok((&key(), None)));
    let generation = issuer.view.keys.generation();
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let view = issuer.view.clone();
        askers.spawn(async move {
            view.refetch.ask().await;
            view.keys.generation()
        });
    }
    let seen = askers.join_all().await;
    assert!(seen.iter().all(|seen| *seen > generation), "all of them see the new key");
    assert_eq!(issuer.script.fetches(), 2);
    for _ in 0..10_000 {
        issuer.view.refetch.ask().await;
    }
    assert_eq!(issuer.script.fetches(), 2, "unknown keys cause one fetch in an interval");
    tokio::time::sleep(INTERVAL).await;
    for _ in 0..10_000 {
        issuer.view.refetch.ask().await;
    }
    assert_eq!(issuer.script.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn malformed_key_sets_do_not_replace_the_known_keys() {
    let issuer = issuer(Script::new(&key(), None), Some(Duration::from_secs(10)));
    pass(1).await;
    for rubbish in ["", "{}", "{\"keys\": []}", "<html>", "{\"keys\": [{\"kty\": \"oct\"}]}"] {
        let (known, fetches) = (issuer.view.keys.load(), issuer.script.fetches());
        issuer.script.says(Ok((rubbish, None)));
        pass(600).await;
        assert!(issuer.script.fetches() > fetches, "{rubbish}");
        assert!(Arc::ptr_eq(&known, &issuer.view.keys.load()), "{rubbish}");
    }
    assert!(issuer.faults.lock().unwrap().iter().all(|f| *f == FetchFault::Malformed));
    let known = issuer.view.keys.load();
    let kid = |set: &KeySet| set.iter().map(|k| k.kid().map(str::to_owned)).collect::<Vec<_>>();
    issuer.script.says(Ok((&key(), None)));
    pass(301).await;
    let found = issuer.view.keys.load();
    assert_eq!(found.len(), 1);
    assert_ne!(kid(&known), kid(&found));
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_the_issuer_uses_the_keys_that_were_kept() {
    let first = issuer(Script::new(&key(), None), None);
    pass(1).await;
    let fetched = *first.view.fetched.load();
    assert!(fetched.is_some());
    let down = Script::new("", None);
    down.says(Err(FetchFault::Unreachable));
    let second = issuer_in(first.state.clone(), down.clone(), None);
    assert_eq!((second.keys(), *second.view.fetched.load()), (1, fetched), "before any fetch");
    pass(3600).await;
    assert_eq!(second.keys(), 1);
    std::fs::write(first.state.path().join("keys/idp.json"), "{ damaged").unwrap();
    assert_eq!(issuer_in(first.state.clone(), down, None).keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_issuer_does_not_delay_known_keys() {
    let mut script = Script::new(&key(), None);
    script.latency = Duration::from_secs(3600);
    let issuer = issuer(script, None);
    pass(1).await;
    let began = Instant::now();
    issuer.view.refetch.ask().await;
    assert_eq!(began.elapsed(), Duration::from_secs(2), "whoever misses a key waits a little");
    let began = Instant::now();
    assert_eq!(issuer.keys(), 0);
    assert!(began.elapsed().is_zero(), "looking at keys never waits");
}
