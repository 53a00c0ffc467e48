//! Lengths of time as people write them: always with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The text is not a length of time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a length of time: write a whole number and ms, s, min, h or d")]
pub struct InvalidTimeSpan(pub String);

/// A length of time, in whole milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(Duration);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl TimeSpan {
    /// This many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// This many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// The length, for timers.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeSpan {
    type Err = InvalidTimeSpan;

    fn from_str(text: &str) -> Result<Self, InvalidTimeSpan> {
        let invalid = || InvalidTimeSpan(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (digits, unit) = text.split_at(end);
        let number: u64 = digits.parse().map_err(|_not_a_number| invalid())?;
        let unit = unit.trim_start_matches(' ');
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        number.checked_mul(*factor).map(Self::millis).ok_or_else(invalid)
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = InvalidTimeSpan;

    fn try_from(text: String) -> Result<Self, InvalidTimeSpan> {
        text.parse()
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> Self {
        span.to_string()
    }
}

impl fmt::Display for TimeSpan {
    /// The largest unit that loses nothing: `90 s`, `2 min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let exact = |factor: u64| millis.checked_rem(u128::from(factor)) == Some(0);
        let largest = UNITS.iter().find(|(_, factor)| millis > 0 && exact(*factor));
        let (unit, factor) = largest.unwrap_or(&("ms", 1));
        write!(f, "{} {unit}", millis.checked_div(u128::from(*factor)).unwrap_or(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_a_number_alone() {
        for (text, millis) in
            [("30 s", 30_000), ("250 ms", 250), ("2 min", 120_000), ("1 d", 86_400_000)]
        {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span, TimeSpan::millis(millis));
            assert_eq!(span.to_string(), text);
        }
        assert_eq!("90s".parse::<TimeSpan>().unwrap().to_string(), "90 s");
        assert_eq!(TimeSpan::millis(0).to_string(), "0 ms");
        for bad in ["", "30", "s", "-1 s", "1.5 s", "1 m", "1 S", "99999999999999999999 s"] {
            assert_eq!(bad.parse::<TimeSpan>(), Err(InvalidTimeSpan(bad.to_owned())));
        }
    }
}
