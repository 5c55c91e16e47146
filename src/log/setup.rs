//! What sitegate says about itself: text or JSON on standard error.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Writes out what is queued when dropped.
pub struct Guard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Send events to standard error from now on. `RUST_LOG` overrides the configured level.
pub fn init(logging: &Logging) -> Guard {
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(std::io::stderr());
    // pingora logs through `log`, and what matters of it is told by sitegate in its own words.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "{},pingora_core=error,pingora_proxy=error,h2=error,rustls=error",
            logging.level
        ))
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match logging.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).try_init()
        }
    };
    if let Err(error) = set {
        tracing::debug!(%error, "a log was set up already");
    }
    Guard(guard)
}
