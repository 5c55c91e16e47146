//! The current time. The only module that reads the system clock; all others take the time as an
//! argument.
//!
//! The composition root passes a `Clock` to the few tasks that read the time, so that tests can set
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A source of the current time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

/// The handle that sets a manual [`Clock`].
#[derive(Clone)]
pub struct Hands(Arc<AtomicI64>);

impl Clock {
    /// The machine's clock. It may jump in either direction.
    pub fn system() -> Self {
        Clock(Arc::new(Timestamp::now))
    }

    /// A clock that stands still until it is set through its `Hands`; for tests and demonstrations.
    pub fn manual(start: Timestamp) -> (Self, Hands) {
        let hands = Hands(Arc::new(AtomicI64::new(start.as_second())));
        let shown = hands.clone();
        let read = move || second(shown.0.load(Ordering::Acquire));
        (Clock(Arc::new(read)), hands)
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Hands {
    /// Sets the time, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_second(), Ordering::Release);
    }

    /// Moves the time by some seconds; negative is backwards.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// A duration in the largest unit that fits.
pub fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// A time as HTTP writes it (RFC 9110 §5.6.7).
pub fn http_date(time: Timestamp) -> String {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

/// 2025-01-01: this program did not exist before.
const PLAUSIBLE_FROM: i64 = 1_735_689_600;

/// Whether the time is plausible, that is, the clock has been set since the machine started.
pub fn is_plausible(now: Timestamp) -> bool {
    now.as_second() >= PLAUSIBLE_FROM
}

/// The time that many seconds after 1970, clamped to the range of [`Timestamp`].
pub fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
