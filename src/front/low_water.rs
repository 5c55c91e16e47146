//! Receiving in bulk: while much is still to come, the system is told to wake the receiver once a good
//! piece is there, instead of for each segment (SO_RCVLOWAT, socket(7)).
//!
//! A hint and no more: nobody waits longer for it than [`PATIENCE`], and where the system refuses it,
//! nothing changes.

use std::os::fd::AsFd;
use std::task::Context;
use std::time::Duration;

use nix::sys::socket::SetSockOpt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use tokio::time::Instant;

use super::deadline::Deadline;

sockopt_impl!(
    /// The bytes that must be there before a receiver is woken.
    RcvLowat,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    usize
);

/// A good piece: a few TLS records, for one system call each way.
const PIECE: usize = 64 * 1024;
/// How long a sender may take for a piece. One that takes longer is slow, and is passed on as it comes.
const PATIENCE: Duration = Duration::from_millis(10);
/// What must come of a slow sender before it is tried again.
const REST_BYTES: usize = 16 * PIECE;

/// The low-water mark of one socket, which nobody else moves.
#[derive(Debug, Default)]
pub struct LowWater {
    raised: bool,
    /// Since when a piece is waited for.
    since: Option<Instant>,
    deadline: Deadline,
    /// What is still to be received before the mark is raised again.
    rest: usize,
}

impl LowWater {
    /// Something was received, and `left` bytes at least are still to come that are not in a buffer
    /// of the program's own.
    pub fn received(&mut self, socket: &impl AsFd, bytes: usize, left: u64) {
        self.since = None;
        self.rest = self.rest.saturating_sub(bytes);
        let wanted = self.rest == 0 && left >= 2 * PIECE as u64;
        if wanted != self.raised {
            self.set(socket, wanted);
        }
    }

    /// Nothing is there to be received. Once a piece takes too long, the receiver is woken for
    /// whatever there is.
    pub fn waits(&mut self, cx: &mut Context<'_>, socket: &impl AsFd) {
        if !self.raised {
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.deadline.passed(cx, since + PATIENCE) {
            self.rest = REST_BYTES;
            // The system looks at once whether that much is there, and wakes.
            self.set(socket, false);
        }
    }

    fn set(&mut self, socket: &impl AsFd, raised: bool) {
        self.raised = raised;
        let bytes = if raised { PIECE } else { 1 };
        if RcvLowat.set(socket, &bytes).is_err() {
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

    /// Whether a receiver is woken, once `bytes` are there.
    fn wakes(receiver: &TcpStream, bytes: usize) -> bool {
        let mut there = vec![0; bytes];
        while receiver.peek(&mut there).unwrap() < bytes {}
        let mut fds = [PollFd::new(receiver, PollFlags::IN)];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&none)).unwrap() == 1
    }

    #[test]
    fn while_much_is_to_come_a_receiver_is_woken_for_pieces_and_near_the_end_for_each_byte() {
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
    async fn a_slow_sender_is_waited_for_once_and_then_passed_on_as_it_comes() {
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
            waited.push(began.elapsed() >= PATIENCE);
        }
        assert_eq!(waited, [true, false, false]);
        low_water.received(&receiver, REST_BYTES, MUCH);
        assert!(low_water.raised, "it may have become fast");
    }
}
