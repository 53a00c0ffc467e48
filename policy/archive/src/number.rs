//! Numeric fields of a header: octal or base 256, exact or refused.

use airlock_policy::rule::Rule;

/// The number in a field; `None` if the field is blank.
///
/// Octal is spaces, digits, then nothing but spaces and NULs. Base 256 is GNU's: a first byte of
/// 0x80, or 0xff for a negative number, and two's complement after it. Readers differ on all
/// else (a plus sign, NULs before the digits, digits after the end, bits beyond 63), so it is
/// refused.
pub(crate) fn parse(field: &[u8]) -> Result<Option<i64>, Rule> {
    match field.split_first() {
        Some((0x80, digits)) => base_256(digits, 0).map(Some),
        Some((0xff, digits)) => base_256(digits, -1).map(Some),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Result<Option<i64>, Rule> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte));
    let (digits, rest) = digits.split_at(end.unwrap_or(digits.len()));
    if !rest.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return Err(Rule::ArchiveNumber);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    // At most 12 digits fit a field: 36 bits.
    digits
        .iter()
        .try_fold(0_i64, |number, digit| {
            number.checked_mul(8)?.checked_add(i64::from(digit.checked_sub(b'0')?))
        })
        .map(Some)
        .ok_or(Rule::ArchiveNumber)
}

/// `sign` is 0 or -1: what the bytes before the first would be.
fn base_256(digits: &[u8], sign: i64) -> Result<i64, Rule> {
    digits
        .iter()
        .try_fold(sign, |number: i64, digit| {
            number.checked_mul(256)?.checked_add(i64::from(*digit))
        })
        .ok_or(Rule::ArchiveNumber)
}

/// A decimal number as pax records and sparse maps have it: digits and nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_is_exact_or_refused() {
        for (field, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"000644 \0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"777777777777", Some(0o7777_7777_7777)),
            (b"0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", None),
            (b"\0\0\0\0\0\0\0\0", None),
            (b"       \0", None),
        ] {
            assert_eq!(parse(field), Ok(number), "{field:?}");
        }
        for field in [
            &b"+3      "[..],
            b"-1      ",
            b"0000648\0",
            b"0x1f    ",
            b"644 644\0",
            b"644\x00644\0",
            b"\x000000644",
            b"1.5     ",
            b"644\xa0    ",
        ] {
            assert_eq!(parse(field), Err(Rule::ArchiveNumber), "{field:?}");
        }
    }

    #[test]
    fn base_256_is_exact_or_refused() {
        let field = |first: u8, high: u8, low: &[u8; 8]| {
            let mut field = [high; 12];
            field[0] = first;
            field[4..].copy_from_slice(low);
            field
        };
        let parse = |first, high, low: &[u8; 8]| parse(&field(first, high, low));
        assert_eq!(parse(0x80, 0, &[0, 0, 0, 2, 0, 0, 0, 0]), Ok(Some(8 << 30)));
        assert_eq!(parse(0xff, 0xff, &[0xff; 8]), Ok(Some(-1)));
        assert_eq!(parse(0xff, 0xff, &[0xff, 0, 0, 0, 0, 0, 0, 0]), Ok(Some(-(1 << 56))));
        assert_eq!(parse(0x80, 0, &[0x7f, 255, 255, 255, 255, 255, 255, 255]), Ok(Some(i64::MAX)));
        for (first, high, low) in [
            (0x80, 0, [0x80, 0, 0, 0, 0, 0, 0, 0]),
            (0x80, 1, [0; 8]),
            (0x81, 0, [0; 8]),
            (0xbf, 0xff, [0xff; 8]),
            (0xc0, 0, [0; 8]),
            (0xff, 0, [0; 8]),
        ] {
            assert_eq!(parse(first, high, &low), Err(Rule::ArchiveNumber), "{first:x} {high:x}");
        }
    }

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"+1", b"-1", b" 1", b"1 ", b"1e3", b"\xff"]
        {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }
}
