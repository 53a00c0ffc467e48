//! Waits between the tries of one request: longer each time, with jitter.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::SourceFault;
use crate::config::BackoffConfig;

/// The tries of one request without progress.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
    tries: u32,
    most: u32,
    first: Duration,
    factor: u32,
    longest: Duration,
}

impl Backoff {
    /// At most this many tries without progress.
    pub(super) const fn new(most: u32, waits: &BackoffConfig) -> Self {
        let (first, longest) = (waits.first.duration(), waits.longest_s3.duration());
        Self { ceiling: first, tries: 0, most, first, factor: waits.factor, longest }
    }

    /// Notes progress: the tries are counted anew.
    pub(crate) const fn progressed(&mut self) {
        self.ceiling = self.first;
        self.tries = 0;
    }

    /// After a failed try: waits before the next, or gives the fault back if there is none.
    pub(crate) async fn wait(
        &mut self,
        fault: SourceFault,
        cancel: &CancellationToken,
    ) -> Result<(), SourceFault> {
        self.tries = self.tries.saturating_add(1);
        if !fault.is_retryable() {
            return Err(fault);
        }
        if self.tries >= self.most {
            return Err(SourceFault::GaveUp { tries: self.tries, last: Box::new(fault) });
        }
        let pause = self.ceiling.mul_f64(random_fraction());
        tracing::info!(code = fault.code(), tries = self.tries, ?pause, "trying again: {fault}");
        self.ceiling = self.ceiling.saturating_mul(self.factor).min(self.longest);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(SourceFault::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

/// A number in 0..1. Full jitter keeps clients that failed together from coming back together; it
/// need not be unpredictable.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn stalled() -> SourceFault {
        let place = "s3://images/x".parse().unwrap();
        SourceFault::Stalled { place, after: Duration::from_secs(1) }
    }

    #[test]
    fn jitter_stays_in_its_range_and_varies() {
        let drawn: Vec<_> = (0..100).map(|_| random_fraction()).collect();
        assert!(drawn.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(drawn.iter().any(|f| *f < 0.4) && drawn.iter().any(|f| *f > 0.6));
    }

    #[tokio::test]
    async fn gives_up_after_the_last_try_and_counts_anew_after_progress() {
        let cancel = CancellationToken::new();
        let mut backoff = Backoff::new(3, &BackoffConfig::default());
        for _ in 0..2 {
            backoff.wait(stalled(), &cancel).await.unwrap();
        }
        backoff.progressed();
        for _ in 0..2 {
            backoff.wait(stalled(), &cancel).await.unwrap();
        }
        let given_up = backoff.wait(stalled(), &cancel).await.unwrap_err();
        assert!(matches!(given_up, SourceFault::GaveUp { tries: 3, .. }));
    }

    #[tokio::test]
    async fn a_final_fault_is_never_tried_again_and_a_wait_can_be_cancelled() {
        let (cancel, waits) = (CancellationToken::new(), BackoffConfig::default());
        let changed = SourceFault::Changed { place: "s3://images/x".parse().unwrap() };
        let fault = Backoff::new(9, &waits).wait(changed, &cancel).await.unwrap_err();
        assert!(matches!(fault, SourceFault::Changed { .. }));
        cancel.cancel();
        let started = Instant::now();
        let fault = Backoff::new(9, &waits).wait(stalled(), &cancel).await.unwrap_err();
        assert!(matches!(fault, SourceFault::Cancelled));
        assert!(started.elapsed() < Duration::from_millis(90));
    }
}
