//! Byte sizes as people write them: always with a unit, always binary.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is not a size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSize {
    /// A decimal unit, or a letter that could be either.
    #[error("{0:?} is ambiguous: write a binary unit, such as \"8 GiB\" or \"512 MiB\"")]
    AmbiguousUnit(String),
    /// Anything else.
    #[error("{0:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB")]
    Malformed(String),
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// This many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// This many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }
}

const UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let malformed = || InvalidSize::Malformed(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (digits, unit) = text.split_at(end);
        let number: u64 = digits.parse().map_err(|_not_a_number| malformed())?;
        let unit = unit.trim_start_matches(' ');
        if matches!(unit, "K" | "M" | "G" | "T" | "KB" | "MB" | "GB" | "TB" | "k" | "kB") {
            return Err(InvalidSize::AmbiguousUnit(text.to_owned()));
        }
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        number.checked_mul(*factor).map(Self).ok_or_else(malformed)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        format!("{} B", size.0)
    }
}

impl fmt::Display for ByteSize {
    /// One decimal, binary unit: `412.6 MiB`; below 1 KiB whole bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.iter().rev().find(|(_, factor)| self.0 >= *factor).unwrap_or(&("B", 1));
        if *factor == 1 {
            return write!(f, "{} B", self.0);
        }
        // Rounded down, so that nothing is ever shown as more than it is.
        let tenths =
            u128::from(self.0).saturating_mul(10).checked_div(u128::from(*factor)).unwrap_or(0);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_binary_units_and_says_why_it_refuses_others() {
        assert_eq!("8 GiB".parse(), Ok(ByteSize::gib(8)));
        assert_eq!("512MiB".parse(), Ok(ByteSize::mib(512)));
        assert_eq!("8G".parse::<ByteSize>(), Err(InvalidSize::AmbiguousUnit("8G".to_owned())));
        for bad in ["", "8", "GiB", "-1 GiB", "1.5 GiB", "99999999999 TiB", "1 gib", "1 GiBé"] {
            assert_eq!(bad.parse::<ByteSize>(), Err(InvalidSize::Malformed(bad.to_owned())));
        }
    }

    #[test]
    fn prints_one_decimal() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (432_642_000, "412.5 MiB")];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
