//! Many clients of a site at work at once: each registers, gets its token, and does what clients
//! do, until the time is over or it is told to stop.
//!
//! Counts; whether a count is good is the reader's to judge.

mod member;
mod tally;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::reach::Reach;
use crate::clock::Clock;
use member::Member;
use tally::Tally;
pub use tally::{Failure, Row, Summary};

/// Clients that begin in one second at most: more handshakes at once than that are no working day.
const STARTS_PER_SECOND: u32 = 100;

/// What a fleet does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the gateway is reached.
    pub reach: Reach,
    /// The host of content; the gateway's name by default.
    pub content_host: Option<String>,
    /// The path of the token service.
    pub service: String,
    /// A bulk registration token that every client registers with.
    pub bulk: Option<String>,
    /// A client token that all clients share, for a fleet that does not register.
    pub token: Option<String>,
    /// The package whose content is fetched.
    pub package: String,
    /// How many clients.
    pub clients: u32,
    /// Requests of all clients together in a second; as many as they can by default.
    pub rate: Option<u32>,
    /// How long.
    pub time: Duration,
    /// What time it is.
    pub clock: Clock,
}

/// A fleet at work, on threads of its own, until its time is over, or it is stopped or dropped.
#[derive(Debug)]
pub struct Fleet {
    tally: Arc<Tally>,
    begun: Instant,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fleet {
    /// Set the clients to work.
    ///
    /// # Errors
    /// If the gateway's name does not resolve, or the system gives no thread or runtime.
    pub fn start(plan: Plan) -> io::Result<Self> {
        plan.reach.client()?;
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let counted = tally.clone();
        let thread = std::thread::Builder::new().name("sim-fleet".to_owned()).spawn(move || {
            runtime.block_on(work(plan, counted, stopped));
            // What is still being closed keeps nobody waiting.
            runtime.shutdown_background();
        })?;
        Ok(Fleet { tally, begun: Instant::now(), stop, thread: Some(thread) })
    }

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| thread.is_finished())
    }

    /// What has happened so far.
    pub fn summary(&self) -> Summary {
        self.tally.summary(self.begun.elapsed())
    }

    /// End what is under way, and say what has happened.
    pub fn stop(mut self) -> Summary {
        let took = self.begun.elapsed();
        self.end();
        self.tally.summary(took)
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

async fn work(plan: Plan, tally: Arc<Tally>, mut stopped: watch::Receiver<bool>) {
    let plan = Arc::new(plan);
    let mut members = JoinSet::new();
    for number in 0..plan.clients {
        members.spawn(begin(plan.clone(), number, tally.clone()));
    }
    let all = async { while members.join_next().await.is_some() {} };
    // Whatever is under way when the time is over counts as nothing.
    tokio::select! {
        () = all => {}
        () = tokio::time::sleep(plan.time) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn begin(plan: Arc<Plan>, number: u32, tally: Arc<Tally>) {
    tokio::time::sleep(Duration::from_secs(1) * number / STARTS_PER_SECOND).await;
    if let Ok(member) = Member::new(plan, number, tally) {
        member.work().await;
    }
}
