//! How often a state is tried, for how long, and how long is waited in between.

use std::time::Duration;

use super::queue::Queue;

/// The rules of one state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Attempts in all.
    pub attempts: u32,
    /// How long one attempt may take, the wait for a turn not counted.
    pub deadline: Option<Duration>,
    /// The longest wait between two attempts.
    pub longest_wait: Duration,
    /// The queue whose turn it needs.
    pub queue: Option<Queue>,
    /// Whether the daemon, when it stops, gives the attempt up at once: it would take long, and
    /// is carried on at the next start where it was.
    pub gives_way: bool,
}

impl Rules {
    /// A state with so many attempts of so many seconds each.
    pub const fn new(attempts: u32, seconds: u64) -> Self {
        Self {
            attempts,
            deadline: Some(Duration::from_secs(seconds)),
            longest_wait: Duration::from_secs(5),
            queue: None,
            gives_way: false,
        }
    }

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

    /// Waits as long as S3 may need to recover.
    #[must_use]
    pub const fn patient(self) -> Self {
        Self { longest_wait: Duration::from_secs(30), ..self }
    }

    /// Has no deadline of its own.
    #[must_use]
    pub const fn without_deadline(self) -> Self {
        Self { deadline: None, ..self }
    }

    /// How long to wait after this attempt, from 1: anything up to 100 ms, doubled with each
    /// attempt, up to the longest wait. `random` is the fraction, out of `u32::MAX`.
    pub fn wait(&self, attempt: u32, random: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        let most = Duration::from_millis(100)
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(self.longest_wait);
        let nanos = most.as_nanos().saturating_mul(u128::from(random)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
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
        let rules = Rules::new(4, 30);
        let longest = |attempt| rules.wait(attempt, u32::MAX).as_millis();
        assert_eq!([1, 2, 3, 7, 1000].map(longest), [99, 199, 399, 4999, 4999]);
        assert_eq!(rules.wait(3, 0), Duration::ZERO);
        assert_eq!(rules.wait(2, 1 << 31).as_millis(), 100);
        assert_eq!(rules.patient().wait(60, u32::MAX).as_secs(), 29);
    }
}
