//! Amounts of bytes, shares and counts as people read them.

use airlock_policy::size::ByteSize;

/// `412.6 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// `265.1 of 412.6 MiB`; both units where they differ.
pub(crate) fn part(done: u64, total: u64, between: &str) -> String {
    let (done, total) = (bytes(done), bytes(total));
    match (done.split_once(' '), total.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => {
            format!("{number}{between}{total}")
        }
        _ => format!("{done}{between}{total}"),
    }
}

/// Whole percents, rounded down; none of nothing.
pub(crate) fn percent(done: u64, total: u64) -> u64 {
    let share = u128::from(done.min(total)).saturating_mul(100);
    share.checked_div(u128::from(total)).and_then(|p| u64::try_from(p).ok()).unwrap_or(0)
}

/// `21,602`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(place);
        if place > 0 && left % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 image`, `3 images`.
pub(crate) fn of(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(part(277_977_498, 432_642_458, " of "), "265.1 of 412.6 MiB");
        assert_eq!(part(1024, 1 << 20, "/"), "1.0 KiB/1.0 MiB");
        assert_eq!(percent(1, 3), 33);
        assert_eq!(percent(1, 0), 0);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(
            ["0", "999", "1,000", "21,602", "1,000,000"],
            [0, 999, 1000, 21_602, 1_000_000].map(count).each_ref().map(String::as_str)
        );
        assert_eq!([of(1, "image"), of(0, "image")], ["1 image", "0 images"]);
    }
}
