//! Log initialization: text or JSON on standard error, and files for CMTrace.
//!
//! Under journald, lines carry a priority and no timestamp.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::cmtrace::{CmTrace, Files};
use super::queue::Queue;
use super::sink::Losses;
use crate::clock::Clock;
use crate::config::{LogFormat, Logging};
use crate::metrics::{LogLost, Metrics};

/// Writes the queued lines when dropped.
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] Vec<WorkerGuard>);

/// The losses of the process's own logs; created before there are metrics to count them.
static OWN: OnceLock<[Arc<Losses>; 2]> = OnceLock::new();

/// Installs the subscriber: events go to standard error, and into files if the configuration has a
/// folder for them. `RUST_LOG` overrides the configured level.
pub fn init(logging: &Logging, clock: &Clock) -> LogGuard {
    let losses = [LogLost::Stderr, LogLost::Cmtrace].map(|log| Arc::new(Losses::before(log)));
    let [stderr, files] = &losses;
    let (queue, guard) = Queue::before(std::io::stderr(), stderr.clone());
    let mut guards = vec![guard];
    let cmtrace = logging.cmtrace.as_ref().map(|folder| {
        let (queue, guard) = Queue::before(Files::new(folder), files.clone());
        guards.push(guard);
        CmTrace::new(queue, clock.clone())
    });
    let set = tracing_subscriber::registry()
        .with(filter(&logging.level))
        .with(to_stderr(logging.format, queue))
        .with(cmtrace)
        .try_init();
    match set {
        Ok(()) => drop(OWN.set(losses)),
        Err(error) => tracing::debug!(%error, "a log was set up already"),
    }
    LogGuard(guards)
}

/// Starts to count the losses of the process's own logs.
pub fn count_losses(metrics: &Arc<Metrics>) {
    for losses in OWN.get().into_iter().flatten() {
        losses.count_with(metrics.clone());
    }
}

fn filter(level: &str) -> EnvFilter {
    // pingora logs through `log`; sitegate logs the relevant events itself.
    EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!("{level},pingora_core=error,h2=error,rustls=error,notify=warn"))
    })
}

type Stderr = Box<dyn Layer<tracing_subscriber::layer::Layered<EnvFilter, Registry>> + Send + Sync>;

fn to_stderr(format: LogFormat, queue: Queue) -> Stderr {
    let layer = tracing_subscriber::fmt::layer().with_writer(queue);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text if crate::os::is_journal() => {
            layer.with_ansi(false).event_format(JournalFormat::new()).boxed()
        }
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer.with_ansi(colour).boxed()
        }
    }
}

/// A line for journald: its priority first (sd-daemon(3)), and no timestamp, which journald adds.
struct JournalFormat(Format<Full, ()>);

impl JournalFormat {
    fn new() -> Self {
        JournalFormat(Format::default().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        // Each line of a multi-line text becomes an entry, and needs its own priority.
        for line in line.lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}
