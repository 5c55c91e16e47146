//! The accept loop of every simulated server: plain HTTP/1.1 on its own thread, until dropped.
//!
//! Independent of requests and responses.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The pause after a failed accept, for example without free descriptors.
const BREATH: Duration = Duration::from_millis(10);

/// A free loopback port that the system picks.
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A running server.
#[derive(Debug)]
pub(crate) struct RunningServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RunningServer {
    /// Listens on an address. `connected` is called once for each connection and returns its
    /// request handler.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub(crate) fn start<C, S, F, B>(
        name: &str,
        listen: SocketAddr,
        connected: C,
    ) -> io::Result<Self>
    where
        C: FnMut() -> S + Send + 'static,
        S: Fn(Request<Incoming>) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropping the runtime ends every connection.
            runtime.block_on(accept(listener, connected, stopped));
        })?;
        Ok(RunningServer { address, stop, thread: Some(thread) })
    }

    /// Its listen address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept<C, S, F, B>(
    listener: std::net::TcpListener,
    mut connected: C,
    mut stopped: watch::Receiver<bool>,
) where
    C: FnMut() -> S,
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let answers = connected();
        let service = service_fn(move |request| {
            let answer = answers(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(async move {
            // A connection that the peer breaks is no error here.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
