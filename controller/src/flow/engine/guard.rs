//! Holds an attempt to its deadline, and turns a panic into its outcome.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::time::Duration;

use airlock_protocol::control::{ErrorClass, Fault};

use crate::fault::{Explain as _, fault};
use crate::flow::step::StepFault;

/// Turns what can befall an attempt from outside, a deadline or a panic, into its outcome.
pub(super) async fn within<T>(
    deadline: Option<Duration>,
    state: &'static str,
    work: impl Future<Output = std::thread::Result<Result<T, StepFault>>>,
) -> Result<T, StepFault> {
    let outcome = match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout(deadline, work).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                let seconds = deadline.as_secs();
                return Err(StepFault::again(fault(
                    ErrorClass::Timeout,
                    "run.deadline",
                    format!("{state} took longer than {seconds} s"),
                )));
            }
        },
    };
    outcome.unwrap_or_else(|panic| Err(StepFault::again(panicked(state, &*panic))))
}

thread_local! {
    /// Where the last panic of this thread came from. An attempt that panics is unwound on the
    /// thread that polls it.
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

/// From now on each panic leaves its backtrace for [`within`].
pub(super) fn keep_backtraces() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            LAST.set(Some(Backtrace::force_capture().to_string()));
            before(info);
        }));
    });
}

fn panicked(state: &'static str, panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let backtrace = LAST.take().unwrap_or_default();
    tracing::error!(state, panic = text, backtrace, "a step panicked");
    fault(ErrorClass::Internal, "internal.panic", format!("a bug of airlock ended {state}"))
        .fact("panic", text)
        .next("journalctl -u airlock")
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt() {
        let bug = async { panic!("oh {}", 1) };
        let outcome: Result<(), _> =
            within(None, "seal", AssertUnwindSafe(bug).catch_unwind()).await;
        let Err(StepFault::Again { fault, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(fault.code, "internal.panic");
        assert!(fault.facts.contains(&("panic".to_owned(), "oh 1".to_owned())), "{fault:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_past_its_deadline_is_a_failed_one() {
        let work = async { Ok(std::future::pending::<Result<(), StepFault>>().await) };
        let outcome = within(Some(Duration::from_secs(30)), "seal", work).await;
        let Err(StepFault::Again { fault, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((fault.code.as_str(), fault.class), ("run.deadline", ErrorClass::Timeout));
    }
}
