//! The way to a PostgreSQL server: connections, each for a bounded time, and why there is none.
//!
//! The pool tries again in silence while the server refuses, and tells in the end that its time is up.
//! So whoever waits asks the server beside it, and is told what it says. Never shows the password.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::health::Health;
use super::{StoreError, StoreFault};

/// How long a connection may take to be made. The system sends a packet that was lost again after a
/// second; that, and a slow handshake of TLS and password, is waited for, and no second loss.
pub(super) const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// How long somebody waits for the pool before the server is asked beside it.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// How long to wait for one of the pool's connections while others use them.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to wait for a connection that is in use where the server gives no more.
const TURN: Duration = Duration::from_millis(20);
/// After what time without a success it is no longer believed that some connections work.
const WORKED_LATELY: Duration = Duration::from_secs(1);
/// How long one statement may take: more than the slowest of them, a sweep of a day's tokens, needs.
const STATEMENT_MAX: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: u32 = 10;

/// A PostgreSQL server, and the connections to it.
#[derive(Clone)]
pub(super) struct Server {
    pool: PgPool,
    in_use: Arc<AtomicUsize>,
    /// Who asks the server beside the pool: one at a time, or a server without connections would be
    /// asked for more of them than the pool may have.
    asking: Arc<Semaphore>,
}

/// A connection is in use until this is dropped.
pub(super) struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold the password.
        f.write_str("Server")
    }
}

impl Server {
    /// With no connection yet.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // A server may be told to confirm what is not on disk yet. What is stricter than
                    // "on" stays as it is.
                    let sql = "SELECT set_config('synchronous_commit', 'on', false) \
                               WHERE current_setting('synchronous_commit') = 'off'";
                    sqlx::query(sql).execute(connection).await.map(|_| ())
                })
            })
            .connect_lazy_with(options);
        Server { pool, in_use: Arc::default(), asking: Arc::new(Semaphore::new(1)) }
    }

    /// The same server by new connections: some of those before may be dead without knowing it, and
    /// would be waited for.
    pub(super) fn renewed(&self) -> Self {
        Server::new(PgConnectOptions::clone(&self.pool.connect_options()))
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether the server lets somebody in.
    pub(super) async fn ask(&self) -> Result<(), StoreError> {
        let connection = connect(&self.pool.connect_options()).await?;
        // It is let in; how it leaves does not matter.
        let _ = timeout(CONNECT_MAX, connection.close()).await;
        Ok(())
    }

    /// Something of the pool: a connection, or a transaction on one.
    pub(super) async fn get<T, F>(
        &self,
        health: &Health,
        get: impl Fn(PgPool) -> F,
    ) -> Result<(T, InUse), StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let got = tokio::select! {
                biased;
                got = get(self.pool.clone()) => got.map_err(StoreError::from),
                away = health.until_away() => Err(away),
                why = self.why_none() => Err(why),
            };
            match got {
                Ok(got) => {
                    self.in_use.fetch_add(1, Ordering::AcqRel);
                    return Ok((got, InUse(self.in_use.clone())));
                }
                // Those that there are do, one after another.
                Err(error)
                    if error.fault() == StoreFault::TooManyConnections
                        && self.has_some(health)
                        && Instant::now() < until =>
                {
                    sleep(TURN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there are connections that work. Between two who use one, it is nobody's for a moment.
    fn has_some(&self, health: &Health) -> bool {
        let worked = health.worked().is_some_and(|worked| worked.elapsed() < WORKED_LATELY);
        worked || self.in_use.load(Ordering::Acquire) > 0
    }

    /// Returns with the reason if the server gives no connection, and else never.
    async fn why_none(&self) -> StoreError {
        sleep(ASK_AFTER).await;
        let in_use = self.in_use.load(Ordering::Acquire);
        if in_use < CONNECTIONS_MAX as usize
            && let Ok(_turn) = self.asking.acquire().await
            && let Err(error) = self.ask().await
        {
            return error;
        }
        std::future::pending().await
    }

    /// Let go of all connections, when those who use them are done.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection of one's own.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let error = match timeout(CONNECT_MAX, options.connect()).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => StoreError::from(error),
        Err(_) => {
            let said = format!("nothing within {} ms", CONNECT_MAX.as_millis());
            StoreError::Server { fault: StoreFault::NoAnswer, said }
        }
    };
    Err(match error {
        StoreError::Server { fault, said } => {
            StoreError::Server { fault, said: format!("{place}: {said}") }
        }
        other => other,
    })
}

/// As long as a statement may take.
pub(super) async fn bounded<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(STATEMENT_MAX, statement).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_) => {
            let said = format!("nothing within {} s", STATEMENT_MAX.as_secs());
            Err(StoreError::Server { fault: StoreFault::Timeout, said })
        }
    }
}
