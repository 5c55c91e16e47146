//! Load of many concurrent clients until stopped: some keep their connection, some open a new one
//! for each request.
//!
//! Only counts; the reader judges the numbers.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{ClientError, SimClient, SimRequest, Trust};

/// The most failures that are stored as text.
const FAILURES_MAX: usize = 8;

/// The settings of the clients.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The address to connect to.
    pub address: SocketAddr,
    /// The server name.
    pub name: String,
    /// The trusted roots.
    pub trust: Trust,
    /// The request; every response other than 200 is a failure.
    pub request: SimRequest,
    /// The number of clients with a persistent connection.
    pub keeping: usize,
    /// The number of clients with a new connection for each request.
    pub fresh: usize,
    /// The pause of each client between two requests.
    pub pause: Duration,
}

/// The results so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Connections or handshakes that failed.
    pub handshakes_failed: u64,
    /// Requests with a 200 response.
    pub requests: u64,
    /// Requests that failed, or had another response.
    pub requests_failed: u64,
    /// Persistent connections that had to be reopened.
    pub reopened: u64,
    /// The first failures, as text.
    pub failures: Vec<String>,
}

#[derive(Debug, Default)]
struct LoadTally {
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    requests: AtomicU64,
    requests_failed: AtomicU64,
    reopened: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Running clients, on their own thread, until stopped or dropped.
#[derive(Debug)]
pub struct Load {
    tally: Arc<LoadTally>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// If the system gives no thread or runtime.
    pub fn start(plan: LoadPlan) -> io::Result<Self> {
        let tally = Arc::new(LoadTally::default());
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = tally.clone();
        let thread = std::thread::Builder::new()
            .name("sim-load".to_owned())
            .spawn(move || runtime.block_on(work(plan, counted, stopped)))?;
        Ok(Load { tally, stop, thread: Some(thread) })
    }

    /// The results so far.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        Counts {
            handshakes: read(&self.tally.handshakes),
            handshakes_failed: read(&self.tally.handshakes_failed),
            requests: read(&self.tally.requests),
            requests_failed: read(&self.tally.requests_failed),
            reopened: read(&self.tally.reopened),
            failures: self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Lets every client finish its request, and returns the results.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

async fn work(plan: LoadPlan, tally: Arc<LoadTally>, stopped: watch::Receiver<bool>) {
    let plan = Arc::new(plan);
    let mut clients = JoinSet::new();
    for number in 0..plan.keeping + plan.fresh {
        let keeps = number < plan.keeping;
        clients.spawn(one(plan.clone(), keeps, tally.clone(), stopped.clone()));
    }
    while clients.join_next().await.is_some() {}
}

async fn one(
    plan: Arc<LoadPlan>,
    keeps: bool,
    tally: Arc<LoadTally>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut client = SimClient::new(plan.address, &plan.name, &plan.trust);
    let mut opened = false;
    while !*stopped.borrow_and_update() {
        if !keeps {
            client.close();
        } else if std::mem::replace(&mut opened, true) && !client.is_open() {
            tally.reopened.fetch_add(1, Ordering::AcqRel);
        }
        tally.note(client.fetch(&plan.request).await.map(|answer| {
            let told = (answer.status != 200).then(|| answer.line());
            (answer.reused, told)
        }));
        let _ = tokio::time::timeout(plan.pause, stopped.changed()).await;
    }
}

impl LoadTally {
    /// Counts one request: whether its connection was reused, and its failure.
    fn note(&self, outcome: Result<(bool, Option<String>), ClientError>) {
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::AcqRel);
        match outcome {
            Ok((reused, wrong)) => {
                if !reused {
                    add(&self.handshakes);
                }
                match wrong {
                    None => add(&self.requests),
                    Some(line) => self.failed(&self.requests_failed, line),
                };
            }
            Err(error @ (ClientError::Connect(_) | ClientError::Handshake(_))) => {
                self.failed(&self.handshakes_failed, error.to_string());
            }
            Err(error) => {
                self.failed(&self.requests_failed, error.to_string());
            }
        }
    }

    fn failed(&self, count: &AtomicU64, told: String) -> u64 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_MAX {
            failures.push(told);
        }
        count.fetch_add(1, Ordering::AcqRel)
    }
}
