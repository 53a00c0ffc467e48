//! How often a state is tried, for how long, and how long is waited in between.
//!
//! The numbers are `daemon.toml`'s, with its defaults; what takes turns, what is given up at a stop
//! and what speaks to S3 is the machines' own.

use std::time::Duration;

use super::queue::Queue;
use crate::config::{AttemptsConfig, BackoffConfig, Config, DeadlinesConfig, TimeSpan};

/// What `daemon.toml` says of attempts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// How often each state is tried.
    pub attempts: AttemptsConfig,
    /// For how long.
    pub deadlines: DeadlinesConfig,
    /// How long is waited in between.
    pub backoff: BackoffConfig,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let Config { attempts, deadlines, backoff, .. } = config;
        Self { attempts: attempts.clone(), deadlines: deadlines.clone(), backoff: backoff.clone() }
    }

    /// A state with so many attempts of that length each.
    pub(super) fn rules(&self, attempts: u32, deadline: impl Into<Option<TimeSpan>>) -> Rules {
        Rules {
            attempts,
            deadline: deadline.into().map(TimeSpan::duration),
            first_wait: self.backoff.first.duration(),
            factor: self.backoff.factor,
            longest_wait: self.backoff.longest.duration(),
            queue: None,
            gives_way: false,
        }
    }

    /// The same for a state that speaks to S3, which may need long to recover.
    pub(super) fn s3_rules(&self, attempts: u32, deadline: impl Into<Option<TimeSpan>>) -> Rules {
        let longest_wait = self.backoff.longest_s3.duration();
        Rules { longest_wait, ..self.rules(attempts, deadline) }
    }
}

/// The rules of one state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Attempts in all.
    pub attempts: u32,
    /// How long one attempt may take, the wait for a turn not counted.
    pub deadline: Option<Duration>,
    /// The longest that the first wait may be.
    pub first_wait: Duration,
    /// How many times as long the next wait may be.
    pub factor: u32,
    /// The longest wait between two attempts.
    pub longest_wait: Duration,
    /// The queue whose turn it needs.
    pub queue: Option<Queue>,
    /// Whether the daemon, when it stops, gives the attempt up at once: it would take long, and
    /// is carried on at the next start where it was.
    pub gives_way: bool,
}

impl Rules {
    /// Takes turns in a queue.
    #[must_use]
    pub const fn queued(self, queue: Queue) -> Self {
        Self { queue: Some(queue), ..self }
    }

    /// Is given up at once when the daemon stops.
    #[must_use]
    pub const fn giving_way(self) -> Self {
        Self { gives_way: true, ..self }
    }

    /// How long to wait after this attempt, from 1: anything up to the first wait, multiplied with
    /// each attempt, up to the longest wait. `random` is the fraction, out of `u32::MAX`.
    pub fn wait(&self, attempt: u32, random: u32) -> Duration {
        let longest = longest_wait(self.first_wait, self.factor, self.longest_wait, attempt);
        let nanos = longest.as_nanos().saturating_mul(u128::from(random)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The bound of the wait after this attempt, from 1.
fn longest_wait(first: Duration, factor: u32, longest: Duration, attempt: u32) -> Duration {
    let times = factor.saturating_pow(attempt.saturating_sub(1));
    first.saturating_mul(times).min(longest)
}

/// 32 random bits. Nothing secret hangs on them.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness all wait equally long, which is no harm.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(_) => u32::from_le_bytes(bytes),
        Err(_none) => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_over_all_of_it() {
        let settings = Settings::default();
        let rules = settings.rules(4, TimeSpan::seconds(30));
        let longest = |attempt| rules.wait(attempt, u32::MAX).as_millis();
        assert_eq!([1, 2, 3, 7, 1000].map(longest), [99, 199, 399, 4999, 4999]);
        assert_eq!(rules.wait(3, 0), Duration::ZERO);
        assert_eq!(rules.wait(2, 1 << 31).as_millis(), 100);
        assert_eq!(settings.s3_rules(4, None).wait(60, u32::MAX).as_secs(), 29);
    }

    #[test]
    fn first_wait_factor_and_longest_are_as_configured() {
        let mut settings = Settings::default();
        settings.backoff.first = TimeSpan::seconds(1);
        settings.backoff.factor = 3;
        settings.backoff.longest = TimeSpan::seconds(10);
        let rules = settings.rules(4, None);
        let bound = |attempt| rules.wait(attempt, u32::MAX).as_millis();
        assert_eq!([1, 2, 3, 4].map(bound), [999, 2999, 8999, 9999]);
        assert_eq!(rules.deadline, None);
    }
}
