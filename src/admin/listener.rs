//! The accept loop of the admin and metrics listeners: a limited number of connections, each with
//! an idle timeout. They must not take file descriptors from clients.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

const CONNECTIONS_MAX: usize = 64;
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener with a connection limit.
pub(super) struct Bounded {
    listener: TcpListener,
    turns: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Bounded { listener, turns: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Bounded {
    type Io = Talking;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Talking, SocketAddr) {
        loop {
            let turn = self.turns.clone().acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
                    return (Talking { stream, silence, _turn: turn }, peer);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an idle timeout.
pub(super) struct Talking {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Talking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, out) {
            Poll::Ready(done) => {
                self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                Poll::Ready(done)
            }
            // A timeout reads as end of stream: a silent client has left.
            Poll::Pending => self.silence.as_mut().poll(cx).map(Ok),
        }
    }
}

impl AsyncWrite for Talking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
