//! Errors that come again word for word are counted, not logged anew.

use airlock_protocol::control::Fault;

/// What one flow has logged last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    last: Option<Fault>,
    times: u32,
}

impl Repeats {
    /// Whether this is the last error again, word for word. Then it is counted.
    pub(super) fn counts(&mut self, fault: &Fault) -> bool {
        let is_same = self.last.as_ref().is_some_and(|last| {
            (&last.code, &last.message, &last.cause) == (&fault.code, &fault.message, &fault.cause)
        });
        self.times = self.times.saturating_add(u32::from(is_same));
        is_same
    }

    /// Something else is logged: answers how often the error before came again unlogged.
    pub(super) fn end(&mut self, next: Option<&Fault>) -> Option<u32> {
        self.last = next.cloned();
        Some(std::mem::take(&mut self.times)).filter(|times| *times > 0)
    }
}

#[cfg(test)]
mod tests {
    use airlock_protocol::control::ErrorClass;

    use super::*;
    use crate::fault::fault;

    #[test]
    fn an_error_that_comes_again_word_for_word_is_counted() {
        let of = |what: &str| fault(ErrorClass::Unavailable, "s3.slow", what);
        let mut repeats = Repeats::default();
        assert!(!repeats.counts(&of("503")));
        assert_eq!(repeats.end(Some(&of("503"))), None);
        for _ in 0..5 {
            assert!(repeats.counts(&of("503")));
        }
        assert!(!repeats.counts(&of("504")));
        assert_eq!(repeats.end(Some(&of("504"))), Some(5));
        assert!(!repeats.counts(&of("503")), "after something else it is news again");
        assert_eq!(repeats.end(None), None);
        assert!(!repeats.counts(&of("504")));
    }
}
