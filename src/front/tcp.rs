//! A TCP stream without a read buffer of its own while it is idle.
//!
//! Reads use buffers that the thread lends, so that a large `recv` needs no memory per connection.
//! A stream keeps a buffer only while it holds bytes that the reader has not taken.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The size of a few TLS records: one system call for data that usually arrives together.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Spare buffers per thread, beyond those in use.
const SPARE_MAX: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn spare() -> Box<[u8]> {
    let kept = SPARE.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX && buffer.len() == SCRATCH_BYTES {
            spare.push(buffer);
        }
    });
}

/// The transport below TLS.
#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    left: Option<Left>,
}

/// Bytes that were received but not taken.
#[derive(Debug)]
struct Left {
    buffer: Box<[u8]>,
    taken: usize,
    end: usize,
}

impl Tcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        Tcp { stream, left: None }
    }

    /// A stream whose first bytes were already received.
    pub(super) fn after(stream: TcpStream, received: Vec<u8>) -> Self {
        let end = received.len();
        let left = (end > 0).then(|| Left { buffer: received.into(), taken: 0, end });
        Tcp { stream, left }
    }

    /// The received bytes that were not taken yet.
    #[cfg(test)]
    pub(super) fn received(&self) -> &[u8] {
        self.left
            .as_ref()
            .and_then(|left| left.buffer.get(left.taken..left.end))
            .unwrap_or_default()
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
        if let Some(left) = &mut me.left {
            let bytes = left.buffer.get(left.taken..left.end).unwrap_or_default();
            let n = out.remaining().min(bytes.len());
            out.put_slice(bytes.get(..n).unwrap_or(bytes));
            left.taken += n;
            if left.taken == left.end
                && let Some(left) = me.left.take()
            {
                give_back(left.buffer);
            }
            return Poll::Ready(Ok(()));
        }
        if out.remaining() >= SCRATCH_BYTES {
            return Pin::new(&mut me.stream).poll_read(cx, out);
        }
        let mut buffer = spare();
        let mut read = ReadBuf::new(&mut buffer);
        let received = Pin::new(&mut me.stream).poll_read(cx, &mut read);
        let end = read.filled().len();
        let taken = out.remaining().min(end);
        out.put_slice(read.filled().get(..taken).unwrap_or_default());
        if taken < end {
            me.left = Some(Left { buffer, taken, end });
        } else {
            give_back(buffer);
        }
        received
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
