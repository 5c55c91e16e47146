//! Connections to a PostgreSQL server, with timeouts, and the reason if there is none.
//!
//! The pool retries silently while the server refuses, and finally reports only a timeout. Waiting
//! requests therefore also ask the server directly, and get its error. Never shows the password.

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

/// The connect timeout. The system retransmits a lost packet after one second; this allows for that
/// and a slow handshake of TLS and password, but not for a second loss.
pub(super) const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// How long a request waits for the pool before the server is also asked directly.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// The timeout for a connection of the pool while others use them all.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The interval of retries while the server gives no further connection.
const TURN: Duration = Duration::from_millis(20);
/// How long after the last success some connections are still assumed to work.
const WORKED_LATELY: Duration = Duration::from_secs(1);
/// The statement timeout: more than the slowest statement, a sweep of a day's tokens, needs.
const STATEMENT_MAX: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: u32 = 10;

/// A PostgreSQL server, and the connections to it.
#[derive(Clone)]
pub(super) struct PostgresServer {
    pool: PgPool,
    in_use: Arc<AtomicUsize>,
    /// Limits direct attempts beside the pool to one at a time: a server without free connections
    /// would otherwise get more attempts than the pool may have.
    asking: Arc<Semaphore>,
}

/// Counts a connection as in use until dropped.
pub(super) struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options contain the password.
        f.write_str("Server")
    }
}

impl PostgresServer {
    /// A server without connections yet.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // A server may be configured to confirm commits before they are on disk.
                    // Stricter settings than "on" are kept.
                    let sql = "SELECT set_config('synchronous_commit', 'on', false) \
                               WHERE current_setting('synchronous_commit') = 'off'";
                    sqlx::query(sql).execute(connection).await.map(|_| ())
                })
            })
            .connect_lazy_with(options);
        PostgresServer { pool, in_use: Arc::default(), asking: Arc::new(Semaphore::new(1)) }
    }

    /// The same server with new connections: some former ones may be dead without having noticed,
    /// and requests would wait for them.
    pub(super) fn renewed(&self) -> Self {
        PostgresServer::new(PgConnectOptions::clone(&self.pool.connect_options()))
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Checks that the server accepts a connection.
    pub(super) async fn ask(&self) -> Result<(), StoreError> {
        let connection = connect(&self.pool.connect_options()).await?;
        // It is accepted; the result of the close does not matter.
        let _ = timeout(CONNECT_MAX, connection.close()).await;
        Ok(())
    }

    /// Acquires from the pool: a connection, or a transaction on one.
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
                // The existing connections suffice, one request after another.
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

    /// Whether some connections work. Between two uses, a connection is briefly counted as unused.
    fn has_some(&self, health: &Health) -> bool {
        let worked = health.worked().is_some_and(|worked| worked.elapsed() < WORKED_LATELY);
        worked || self.in_use.load(Ordering::Acquire) > 0
    }

    /// Returns the reason if the server gives no connection, and never otherwise.
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

    /// Closes all connections, once they are no longer in use.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection outside the pool.
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

/// Runs a statement with the timeout.
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
