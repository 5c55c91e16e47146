//! Threads that must not end by themselves: whoever waits for it is told that one has panicked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::watch;

/// What watches over threads. Clones watch together.
#[derive(Clone, Debug, Default)]
pub struct Guard(watch::Sender<Option<String>>);

impl Guard {
    /// Run what a thread is there for, to its end or its panic.
    pub fn run(&self, thread: &str, what: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(what)) {
            self.0.send_replace(Some(format!("{thread} panicked: {}", said(&*panic))));
        }
    }

    /// Wait until one has panicked, and say which, and why. Never ends where none does.
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

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Guard;

    #[rstest]
    #[case::of_its_own(|| panic!("no room"), "shard-1 panicked: no room")]
    #[case::made_up(|| panic!("no {}", 7), "shard-1 panicked: no 7")]
    #[case::of_something_else(|| std::panic::panic_any(7), "shard-1 panicked: it said nothing")]
    #[tokio::test]
    async fn a_panic_is_told(#[case] what: fn(), #[case] told: &str) {
        let guard = Guard::default();
        let before = guard.lost();
        guard.run("shard-0", || {});
        guard.run("shard-1", what);
        assert_eq!(before.await, told);
        assert_eq!(guard.lost().await, told, "also to who asks later");
    }

    #[tokio::test]
    async fn an_end_is_no_panic() {
        let guard = Guard::default();
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
