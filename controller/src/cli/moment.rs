//! Times, ages and durations as people and programs read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Now, in Unix milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time as RFC 3339 in UTC with milliseconds. A time that no calendar has is the last one.
pub(crate) fn utc(unix_ms: i64) -> String {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

/// How long ago, in one unit, rounded down: `59m`, never `1h`.
pub(crate) fn age(now_ms: i64, then_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    let units = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)];
    match units.iter().find(|(_, size)| seconds >= *size) {
        Some((unit, size)) => format!("{}{unit}", seconds.checked_div(*size).unwrap_or(0)),
        None => format!("{seconds}s"),
    }
}

/// How long something took: `41ms`, `0.2s`, `12.1s`, `2m 4s`, `1h 2m`.
pub(crate) fn took(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..100 => format!("{ms}ms"),
        100..60_000 => format!("{seconds}.{}s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long something took, down to microseconds: `840us`, `41ms`, `12.1s`.
pub(crate) fn took_us(us: u64) -> String {
    if us < 1000 { format!("{us}us") } else { took(us / 1000) }
}

/// The text is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a duration is a whole number with ms, s, m or h after it, such as \"30s\"")]
pub(crate) struct InvalidDuration;

/// Reads `500ms`, `30s`, `5m` or `2h`; a number without a unit could be any of them.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_not_a_number| InvalidDuration)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(InvalidDuration),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or(InvalidDuration)
}

/// The text is no age.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an age is a whole number with s, m, h, d or w after it, such as \"7d\"")]
pub(crate) struct InvalidAge;

/// Reads `30s`, `5m`, `36h`, `7d` or `2w`, as ages are shown.
pub(crate) fn parse_age(text: &str) -> Result<Duration, InvalidAge> {
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidAge)?;
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_not_a_number| InvalidAge)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(InvalidAge),
    };
    number.checked_mul(factor).map(Duration::from_secs).ok_or(InvalidAge)
}

/// The text is no time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a time is a date, a time of day and an offset, such as \"2026-11-25T03:00:00Z\"")]
pub(crate) struct InvalidTime;

/// Reads a time as RFC 3339 has it; answers Unix milliseconds.
pub(crate) fn parse_time(text: &str) -> Result<i64, InvalidTime> {
    let time: Timestamp = text.parse().map_err(|_invalid| InvalidTime)?;
    Ok(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_795_516_867_021), "2026-11-24T10:41:07.021Z");
        assert_eq!(utc(i64::MAX), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn ages_round_down() {
        let minute = 60_000;
        for (ms, text) in [
            (-5, "0s"),
            (59_999, "59s"),
            (minute, "1m"),
            (59 * minute, "59m"),
            (119 * minute, "1h"),
            (48 * 60 * minute, "2d"),
            (15 * 24 * 60 * minute, "2w"),
        ] {
            assert_eq!(age(ms, 0), text);
        }
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (0, "0ms"),
            (99, "99ms"),
            (240, "0.2s"),
            (12_199, "12.1s"),
            (124_000, "2m 4s"),
            (3_720_000, "1h 2m"),
        ] {
            assert_eq!(took(ms), text);
        }
    }

    #[test]
    fn an_age_is_read_as_it_is_shown() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("36h", 129_600), ("7d", 604_800)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_age("2w").unwrap(), parse_age("14d").unwrap());
        for bad in ["7", "", "d", "7 d", "1.5d", "7D", "500ms", "99999999999999999999w"] {
            assert_eq!(parse_age(bad), Err(InvalidAge), "{bad}");
        }
    }

    #[test]
    fn a_time_needs_its_offset() {
        assert_eq!(parse_time("2026-11-24T10:41:07.021Z"), Ok(1_795_516_867_021));
        assert_eq!(parse_time("2026-11-24T11:41:07.021+01:00"), Ok(1_795_516_867_021));
        for bad in ["03:00", "2026-11-24", "2026-11-24T10:41:07", "", "tomorrow"] {
            assert_eq!(parse_time(bad), Err(InvalidTime), "{bad}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["30", "", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "1d"] {
            assert_eq!(parse_duration(bad), Err(InvalidDuration), "{bad}");
        }
    }
}
