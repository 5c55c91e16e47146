//! Threads that must not end: reports a panic in one of them to the task that waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::watch;

/// Watches threads for panics. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct ThreadGuard(watch::Sender<Option<String>>);

impl ThreadGuard {
    /// Runs the thread's work to its end or its panic.
    pub fn run(&self, thread: &str, what: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(what)) {
            self.0.send_replace(Some(format!("{thread} panicked: {}", said(&*panic))));
        }
    }

    /// Waits until a thread has panicked, and returns its name and the panic's message. Never
    /// returns if none does.
    pub fn lost(&self) -> impl Future<Output = String> + Send + use<> {
        let mut lost = self.0.subscribe();
        async move {
            let found = lost.wait_for(Option::is_some).await.ok();
            let why = found.and_then(|lost| lost.clone());
            match why {
                Some(why) => why,
                None => std::future::pending().await,
            }
        }
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no panic message")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::ThreadGuard;

    #[rstest]
    #[case::of_its_own(|| panic!("no room"), "shard-1 panicked: no room")]
    #[case::made_up(|| panic!("no {}", 7), "shard-1 panicked: no 7")]
    #[case::of_something_else(|| std::panic::panic_any(7), "shard-1 panicked: no panic message")]
    #[tokio::test]
    async fn a_panic_is_reported(#[case] what: fn(), #[case] told: &str) {
        let guard = ThreadGuard::default();
        let before = guard.lost();
        guard.run("shard-0", || {});
        guard.run("shard-1", what);
        assert_eq!(before.await, told);
        assert_eq!(guard.lost().await, told, "also to who asks later");
    }

    #[tokio::test]
    async fn an_end_is_no_panic() {
        let guard = ThreadGuard::default();
        guard.run("shard-0", || {});
        let lost = guard.lost();
        drop(guard);
        tokio::select! {
            biased;
            why = lost => panic!("{why}"),
            () = std::future::ready(()) => {}
        }
    }
}
