//! How many lines of each kind were written in this second, and what was only counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the answers that are not worth a line are told in one.
const POLLS: Duration = Duration::from_mins(1);

/// The counts. A kind is a word of this program's, so there are few.
pub(super) struct Pace {
    /// The most lines of one kind in a second.
    pub(super) lines: u32,
    kinds: BTreeMap<&'static str, Kind>,
    /// When the polls were told last.
    told: Option<Instant>,
}

#[derive(Default)]
struct Kind {
    written: u32,
    suppressed: u64,
    polls: u64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { lines: 20, kinds: BTreeMap::new(), told: None }
    }

    /// Whether one more line of this kind may be written; if not, it is counted.
    pub(super) fn admits(&mut self, kind: &'static str) -> bool {
        let most = self.lines;
        let kind = self.kinds.entry(kind).or_default();
        let admitted = kind.written < most;
        if admitted {
            kind.written = kind.written.saturating_add(1);
        } else {
            kind.suppressed = kind.suppressed.saturating_add(1);
        }
        admitted
    }

    /// Counts an answer that gets no line.
    pub(super) fn count(&mut self, kind: &'static str) {
        let kind = self.kinds.entry(kind).or_default();
        kind.polls = kind.polls.saturating_add(1);
    }

    /// Begins another second. Returns what was counted: what is said of it, its kind, how many.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(&'static str, &'static str, u64)> {
        let last = *self.told.get_or_insert(now);
        let tell_polls = now.saturating_duration_since(last) >= POLLS;
        if tell_polls {
            self.told = Some(now);
        }
        let mut due = Vec::new();
        for (name, kind) in &mut self.kinds {
            kind.written = 0;
            due.push(("suppressed", *name, std::mem::take(&mut kind.suppressed)));
            if tell_polls {
                due.push(("polled", *name, std::mem::take(&mut kind.polls)));
            }
        }
        due.retain(|(_event, _kind, count)| *count > 0);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_floods_is_counted_and_hides_no_other() {
        let mut pace = Pace { lines: 3, ..Pace::new() };
        let now = Instant::now();
        let written = (0..1000).filter(|_line| pace.admits("map")).count();
        assert_eq!(written, 3);
        assert!(pace.admits("stranger"));
        assert_eq!(pace.due(now), [("suppressed", "map", 997)]);
        assert!(pace.admits("map"), "another second");
        assert_eq!(pace.due(now), []);
    }

    #[test]
    fn polls_are_told_once_a_minute() {
        let mut pace = Pace::new();
        let now = Instant::now();
        assert_eq!(pace.due(now), []);
        for _poll in 0..50 {
            pace.count("pool_status");
        }
        assert_eq!(pace.due(now + Duration::from_secs(59)), []);
        assert_eq!(pace.due(now + Duration::from_mins(1)), [("polled", "pool_status", 50)]);
        assert_eq!(pace.due(now + Duration::from_mins(3)), []);
    }
}
