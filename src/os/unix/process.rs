//! This process and others: signals, the service manager, memory.

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};

use crate::os::Signal;

/// SIGHUP, SIGTERM and SIGINT; none of them if the process's owner handles them.
pub struct Signals(Option<[tokio::signal::unix::Signal; 3]>);

impl Signals {
    /// Handles the signals from now on, if they are `ours`.
    pub fn new(ours: bool) -> Self {
        let open = || -> io::Result<_> {
            Ok([
                signal(SignalKind::hangup())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ])
        };
        if ours {
            // By default these signals end the process, which no one wants, least of all when a
            // file has grown to its limit. Installing a handler is enough; no one needs to listen.
            let harmless = [SignalKind::user_defined1(), SignalKind::user_defined2()];
            let grown = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            for kind in harmless.into_iter().chain([grown]) {
                let _ = signal(kind);
            }
        }
        Signals(if ours { open().ok() } else { None })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Some([reload, terminate, interrupt]) => tokio::select! {
                _ = reload.recv() => Signal::Reload,
                _ = terminate.recv() => Signal::End,
                _ = interrupt.recv() => Signal::End,
            },
            None => std::future::pending().await,
        }
    }
}

/// Returns a future that ends with the first SIGINT or SIGTERM after this call.
///
/// # Errors
/// If the signals cannot be handled.
pub fn end_requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Reports to systemd that this process serves (sd_notify(3)).
pub fn notify_ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Reports to systemd that this process ends.
pub fn notify_stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

/// Whether standard error is journald's (systemd.exec(5), `JOURNAL_STREAM`). The variable alone is
/// not enough: child processes with another standard error inherit it too.
pub fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Keeps keys out of core dumps, and other processes of the same user out of this one's memory
/// (PR_SET_DUMPABLE). Root still sees all.
///
/// # Errors
/// The system's error.
pub fn hide_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether a process with this id exists.
pub fn exists(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).exists()
}

/// The user as whom this process acts.
pub fn current_user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}
