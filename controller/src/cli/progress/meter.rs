//! How fast bytes come in, and when the last of them will.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is that of the last 5 s, so that it neither jumps nor lags.
const WINDOW: Duration = Duration::from_secs(5);
/// The time left changes once a second: a number that flickers is not read.
const ETA_EVERY: Duration = Duration::from_secs(1);

/// Measures one stage.
#[derive(Debug, Default)]
pub(super) struct Meter {
    samples: VecDeque<(Instant, u64)>,
    eta: Option<(Instant, Option<u64>)>,
}

impl Meter {
    /// Takes the number of bytes done.
    pub(super) fn sample(&mut self, now: Instant, done: u64) {
        // A new attempt may begin below where the last one ended.
        if self.samples.back().is_some_and(|(_, last)| *last > done) {
            self.samples.clear();
        }
        self.samples.push_back((now, done));
        // The one sample before the window stays: rates are measured over a whole one.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; `None` before there is a span to measure.
    pub(super) fn rate(&self) -> Option<u64> {
        let ((start, from), (end, to)) = (self.samples.front()?, self.samples.back()?);
        let ms = end.duration_since(*start).as_millis();
        let bytes = u128::from(to.saturating_sub(*from));
        if ms < 200 {
            return None;
        }
        bytes.saturating_mul(1000).checked_div(ms).and_then(|rate| u64::try_from(rate).ok())
    }

    /// Seconds left, as of at most a second ago.
    pub(super) fn eta(&mut self, now: Instant, done: u64, total: u64) -> Option<u64> {
        if let Some((at, eta)) = self.eta
            && now.duration_since(at) < ETA_EVERY
        {
            return eta;
        }
        let left = total.saturating_sub(done);
        let eta = self
            .rate()
            .and_then(|rate| left.checked_add(rate.saturating_sub(1))?.checked_div(rate));
        self.eta = Some((now, eta));
        eta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_five_seconds() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let at = |ms| start.checked_add(Duration::from_millis(ms)).unwrap();
        meter.sample(at(0), 0);
        assert_eq!(meter.rate(), None);
        for second in 1..=10 {
            meter.sample(at(second * 1000), second * 1000);
        }
        assert_eq!(meter.rate(), Some(1000));
        for second in 11..=20 {
            meter.sample(at(second * 1000), 10_000);
        }
        assert_eq!(meter.rate(), Some(0));
    }

    #[test]
    fn the_time_left_changes_once_a_second_and_is_unknown_at_a_standstill() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let at = |ms| start.checked_add(Duration::from_millis(ms)).unwrap();
        meter.sample(at(0), 0);
        meter.sample(at(1000), 100);
        assert_eq!(meter.eta(at(1000), 100, 1000), Some(9));
        meter.sample(at(1500), 900);
        assert_eq!(meter.eta(at(1500), 900, 1000), Some(9));
        assert_eq!(meter.eta(at(2000), 900, 1000), Some(1));
        let mut idle = Meter::default();
        idle.sample(at(0), 5);
        idle.sample(at(1000), 5);
        assert_eq!(idle.eta(at(1000), 5, 10), None);
    }
}
