//! Holds all downloads together to a number of bytes a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use airlock_policy::size::ByteSize;
use tokio::time::Instant;

/// Debts of up to this long are paid by the next caller at once: waits shorter than that only cost
/// wake-ups.
const SLACK: Duration = Duration::from_millis(20);

/// A rate limit.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When all that was taken so far would have come at exactly the limit.
    paid_until: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(limit: ByteSize) -> Self {
        Self { bytes_per_second: limit.0.max(1), paid_until: Mutex::new(Instant::now()) }
    }

    /// Waits until bytes that just came are within the limit.
    pub(super) async fn took(&self, bytes: usize) {
        let until = self.book(bytes as u64);
        if until.saturating_duration_since(Instant::now()) > SLACK {
            tokio::time::sleep_until(until).await;
        }
    }

    fn book(&self, bytes: u64) -> Instant {
        let nanos = u128::from(bytes)
            .saturating_mul(1_000_000_000)
            .checked_div(u128::from(self.bytes_per_second))
            .unwrap_or_default();
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Time that nobody used is not saved up: no burst after a pause.
        let start = (*paid_until).max(Instant::now());
        *paid_until = start.checked_add(cost).unwrap_or(start);
        *paid_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_takers_share_one_limit() {
        let pace = Pace::new(ByteSize::mib(1));
        let started = Instant::now();
        let taker = async || {
            for _ in 0..16 {
                pace.took(64 << 10).await;
            }
        };
        tokio::join!(taker(), taker());
        let took = started.elapsed();
        assert!(
            (Duration::from_millis(1950)..Duration::from_millis(2100)).contains(&took),
            "{took:?}"
        );
    }
}
