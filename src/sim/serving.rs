//! The accept loop of every simulated server: plain HTTP/1.1 on a thread of its own, until dropped.
//!
//! Knows nothing of what is asked and answered.

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

/// How long it waits when the system gives no connection, such as for want of descriptors.
const BREATH: Duration = Duration::from_millis(10);

/// A port of loopback that the system picks.
pub(super) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A server at work.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    /// Listen there. `connected` is asked once for each connection for what answers its requests.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub(super) fn start<C, S, F, B>(
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
        Ok(Serving { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
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
            // A connection that its peer breaks is the peer's affair.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
