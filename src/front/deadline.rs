//! A deadline on tokio's clock. It is cheap to move, because the timer itself moves only when it
//! fires.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// The timer of one wait. Takes no memory until its first use.
#[derive(Debug, Default)]
pub struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Checks whether `moment` has passed; if not, the task is woken when it does.
    pub fn passed(&mut self, cx: &mut Context<'_>, moment: Instant) -> bool {
        let timer = match &mut self.0 {
            Some(timer) => {
                // A timer that fires too early is cheaper than one that is moved at each request.
                if timer.deadline() > moment || timer.is_elapsed() {
                    timer.as_mut().reset(moment);
                }
                timer
            }
            None => self.0.insert(Box::pin(tokio::time::sleep_until(moment))),
        };
        while let Poll::Ready(()) = timer.as_mut().poll(cx) {
            if Instant::now() >= moment {
                return true;
            }
            timer.as_mut().reset(moment);
        }
        false
    }
}
