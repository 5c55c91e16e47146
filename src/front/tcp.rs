//! A TCP stream that keeps no read buffer of its own while idle.
//!
//! Reads go through one scratch buffer per thread, so that a large `recv` needs no memory per
//! connection; only bytes that the reader did not take yet stay with the connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// As large as a few TLS records: one system call for what usually arrives together.
const SCRATCH_BYTES: usize = 32 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// The transport below TLS.
#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    left: Vec<u8>,
    taken: usize,
}

impl Tcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        Tcp { stream, left: Vec::new(), taken: 0 }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if let Some(left) = me.left.get(me.taken..).filter(|left| !left.is_empty()) {
            let n = out.remaining().min(left.len());
            out.put_slice(left.get(..n).unwrap_or(left));
            me.taken += n;
            if me.taken == me.left.len() {
                me.left = Vec::new();
                me.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if out.remaining() >= SCRATCH_BYTES {
            return Pin::new(&mut me.stream).poll_read(cx, out);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut me.stream).poll_read(cx, &mut buffer))?;
            let (now, later) = buffer.filled().split_at(out.remaining().min(buffer.filled().len()));
            out.put_slice(now);
            if !later.is_empty() {
                me.left = later.to_vec();
                me.taken = 0;
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Tcp {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
