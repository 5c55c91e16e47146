//! Bulk receive: while many bytes are still to come, the kernel wakes the receiver once per piece
//! instead of once per segment (SO_RCVLOWAT, socket(7)).
//!
//! Only a hint: a receiver waits at most [`WAIT_MAX`] longer, and if the system refuses the option,
//! nothing changes.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::deadline::Deadline;
use crate::os::{self, AsSocket};

/// The size of a piece: a few TLS records, for one system call each way.
const PIECE: usize = 64 * 1024;
/// The longest wait for a piece. A slower sender's bytes are relayed as they arrive.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// The bytes to receive from a slow sender before the mark is raised again.
const REST_BYTES: usize = 16 * PIECE;

/// The low-water mark of one socket. Only this value changes it.
#[derive(Debug, Default)]
pub struct LowWater {
    raised: bool,
    /// The start of the wait for a piece.
    since: Option<Instant>,
    deadline: Deadline,
    /// The bytes to receive before the mark is raised again.
    rest: usize,
}

impl LowWater {
    /// Records that `bytes` were received. At least `left` bytes are still to come that are not in
    /// a buffer of the program.
    pub fn received(&mut self, socket: &impl AsSocket, bytes: usize, left: u64) {
        self.since = None;
        self.rest = self.rest.saturating_sub(bytes);
        let wanted = self.rest == 0 && left >= 2 * PIECE as u64;
        if wanted != self.raised {
            self.set(socket, wanted);
        }
    }

    /// The socket is empty. Once a piece takes too long, lowers the mark, so that the receiver is
    /// woken for any bytes.
    pub fn waits(&mut self, cx: &mut Context<'_>, socket: &impl AsSocket) {
        if !self.raised {
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.deadline.passed(cx, since + WAIT_MAX) {
            self.rest = REST_BYTES;
            // The kernel checks the new mark at once, and wakes the receiver.
            self.set(socket, false);
        }
    }

    fn set(&mut self, socket: &impl AsSocket, raised: bool) {
        self.raised = raised;
        let bytes = if raised { PIECE } else { 1 };
        if os::set_low_water(socket, bytes).is_err() {
            self.raised = false;
            self.rest = usize::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::task::Poll;

    use rustix::event::{PollFd, PollFlags, poll};
    use tokio::io::{AsyncRead, ReadBuf};

    use super::*;

    const MUCH: u64 = 1 << 30;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (sender, listener.accept().unwrap().0)
    }

    /// Checks whether a receiver is woken once `bytes` are available.
    fn wakes(receiver: &TcpStream, bytes: usize) -> bool {
        let mut there = vec![0; bytes];
        while receiver.peek(&mut there).unwrap() < bytes {}
        let mut fds = [PollFd::new(receiver, PollFlags::IN)];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&none)).unwrap() == 1
    }

    #[test]
    fn the_low_water_mark_is_raised_only_far_from_the_end() {
        let (mut sender, receiver) = pair();
        let mut low_water = LowWater::default();
        sender.write_all(&[1; 1000]).unwrap();
        assert!(wakes(&receiver, 1000));
        low_water.received(&receiver, 1000, MUCH);
        assert!(!wakes(&receiver, 1000));
        sender.write_all(&[1; PIECE]).unwrap();
        assert!(wakes(&receiver, PIECE));
        let mut taken = vec![0; PIECE];
        std::io::Read::read_exact(&mut &receiver, &mut taken).unwrap();
        assert!(!wakes(&receiver, 1000));
        low_water.received(&receiver, PIECE, 2 * PIECE as u64 - 1);
        assert!(wakes(&receiver, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_is_waited_for_only_once() {
        let (mut sender, receiver) = pair();
        receiver.set_nonblocking(true).unwrap();
        let mut receiver = tokio::net::TcpStream::from_std(receiver).unwrap();
        let mut low_water = LowWater::default();
        low_water.received(&receiver, 1, MUCH);
        let mut waited = Vec::new();
        for _ in 0..3 {
            sender.write_all(&[1; 1000]).unwrap();
            let began = Instant::now();
            let read = poll_fn(|cx| {
                let mut bytes = [0; 4096];
                let mut read = ReadBuf::new(&mut bytes);
                match std::pin::Pin::new(&mut receiver).poll_read(cx, &mut read) {
                    Poll::Ready(done) => Poll::Ready(done.map(|()| read.filled().len())),
                    Poll::Pending => {
                        low_water.waits(cx, &receiver);
                        Poll::Pending
                    }
                }
            });
            let read = read.await.unwrap();
            assert_eq!(read, 1000);
            low_water.received(&receiver, read, MUCH);
            waited.push(began.elapsed() >= WAIT_MAX);
        }
        assert_eq!(waited, [true, false, false]);
        low_water.received(&receiver, REST_BYTES, MUCH);
        assert!(low_water.raised, "it may have become fast");
    }
}
