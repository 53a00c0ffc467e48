//! How fast volumes and snapshots are made: thin ids are never used twice, and so must last (POOL-7).

use std::time::{Duration, Instant};

/// A bucket of tokens, kept as the time at which it is full again.
#[derive(Debug)]
pub(crate) struct Pace {
    full_at: Instant,
    /// One token comes in this time.
    interval: Duration,
    /// It takes this long to fill the empty bucket.
    capacity: Duration,
}

impl Pace {
    pub(crate) fn new(burst: u32, per_minute: u32, now: Instant) -> Self {
        let interval = Duration::from_mins(1).checked_div(per_minute).unwrap_or(Duration::MAX);
        Self { full_at: now, interval, capacity: interval.saturating_mul(burst) }
    }

    /// How long it takes until there is a token; `None` where there is one.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let missing = self.full_at.saturating_duration_since(now).saturating_add(self.interval);
        missing.checked_sub(self.capacity).filter(|wait| !wait.is_zero())
    }

    pub(crate) fn take(&mut self, now: Instant) {
        let from = self.full_at.max(now);
        self.full_at = from.checked_add(self.interval).unwrap_or(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_one_comes_at_a_time() {
        let begin = Instant::now();
        let mut pace = Pace::new(3, 60, begin);
        for _token in 0..3 {
            assert_eq!(pace.wait(begin), None);
            pace.take(begin);
        }
        assert_eq!(pace.wait(begin), Some(Duration::from_secs(1)));
        let later = begin + Duration::from_secs(1);
        assert_eq!(pace.wait(later), None);
        pace.take(later);
        assert_eq!(pace.wait(later), Some(Duration::from_secs(1)));
        assert_eq!(pace.wait(begin + Duration::from_hours(1)), None);
    }
}
