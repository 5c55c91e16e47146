//! A fleet of concurrent clients of a site: each registers, gets its token, and performs typical
//! requests, until the time is over or it is stopped.
//!
//! Only counts; the reader judges the numbers.

mod member;
mod tally;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::reach::Reach;
use member::Member;
use sitegate::clock::Clock;
use tally::Tally;
pub use tally::{Failure, Summary, TallyRow};

/// The most clients that start in one second: more concurrent handshakes are unrealistic for a
/// working day.
const STARTS_PER_SECOND: u32 = 100;

/// The settings of a fleet.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// How the gateway is reached.
    pub reach: Reach,
    /// The content host; the gateway's name by default.
    pub content_host: Option<String>,
    /// The path of the token service.
    pub service: String,
    /// A bulk registration token that every client registers with.
    pub bulk: Option<String>,
    /// A client token that all clients share, for a fleet that does not register.
    pub token: Option<String>,
    /// The package to download.
    pub package: String,
    /// The number of clients.
    pub clients: u32,
    /// Requests per second of all clients together; by default as many as possible.
    pub rate: Option<u32>,
    /// The duration.
    pub time: Duration,
    /// The clock.
    pub clock: Clock,
}

/// A running fleet, on its own threads, until its time is over, or it is stopped or dropped.
#[derive(Debug)]
pub struct Fleet {
    tally: Arc<Tally>,
    begun: Instant,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fleet {
    /// Starts the clients.
    ///
    /// # Errors
    /// If the gateway's name does not resolve, or the system gives no thread or runtime.
    pub fn start(plan: FleetPlan) -> io::Result<Self> {
        plan.reach.client()?;
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let counted = tally.clone();
        let thread = std::thread::Builder::new().name("sim-fleet".to_owned()).spawn(move || {
            runtime.block_on(work(plan, counted, stopped));
            // Connections that are still closing are not awaited.
            runtime.shutdown_background();
        })?;
        Ok(Fleet { tally, begun: Instant::now(), stop, thread: Some(thread) })
    }

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| thread.is_finished())
    }

    /// The results so far.
    pub fn summary(&self) -> Summary {
        self.tally.summary(self.begun.elapsed())
    }

    /// Aborts requests in flight, and returns the results.
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

async fn work(plan: FleetPlan, tally: Arc<Tally>, mut stopped: watch::Receiver<bool>) {
    let plan = Arc::new(plan);
    let mut members = JoinSet::new();
    for number in 0..plan.clients {
        members.spawn(begin(plan.clone(), number, tally.clone()));
    }
    let all = async { while members.join_next().await.is_some() {} };
    // Requests in flight at the end of the time are not counted.
    tokio::select! {
        () = all => {}
        () = tokio::time::sleep(plan.time) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn begin(plan: Arc<FleetPlan>, number: u32, tally: Arc<Tally>) {
    tokio::time::sleep(Duration::from_secs(1) * number / STARTS_PER_SECOND).await;
    if let Ok(member) = Member::new(plan, number, tally) {
        member.work().await;
    }
}
