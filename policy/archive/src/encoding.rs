//! The two ways in which pax keys and values of extended attributes are wrapped.

/// Decodes `%3D` and its like. `None` if a `%` is not followed by two hex digits.
pub(crate) fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (&[high, low], after) = rest.split_first_chunk()?;
        rest = after;
        bytes.push(hex(high)? << 4 | hex(low)?);
    }
    Some(bytes)
}

/// Decodes what GNU tar wraps in a key, `%3D` and `%25`, and leaves everything else alone: other
/// writers wrap nothing.
pub(crate) fn gnu_keyword(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest.first_chunk() {
            Some(b"%3D") => (b'=', rest.get(3..).unwrap_or_default()),
            Some(b"%25") => (b'%', rest.get(3..).unwrap_or_default()),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// Decodes base 64 with or without padding (RFC 4648, 4). `None` if it is anything else, unused
/// bits that are set included.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    if unpadded.len() != text.len() && !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    for group in unpadded.chunks(4) {
        let mut bits = 0_u32;
        for letter in group {
            bits = bits << 6 | sextet(*letter)?;
        }
        match group.len() {
            4 => bytes.extend_from_slice(bits.to_be_bytes().get(1..)?),
            3 if bits.trailing_zeros() >= 2 => {
                bytes.extend_from_slice((bits >> 2).to_be_bytes().get(2..)?);
            }
            2 if bits.trailing_zeros() >= 4 => {
                bytes.extend_from_slice((bits >> 4).to_be_bytes().get(3..)?);
            }
            _ => return None,
        }
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn sextet(letter: u8) -> Option<u32> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ALPHABET.iter().position(|known| *known == letter).and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_reading_or_none() {
        for (text, bytes) in [
            (&b""[..], Some(&b""[..])),
            (b"QUJDREVGRw", Some(b"ABCDEFG")),
            (b"QUJDREVGRw==", Some(b"ABCDEFG")),
            (b"WFla", Some(b"XYZ")),
            (b"WFk", Some(b"XY")),
            (b"WFk=", Some(b"XY")),
            (b"+/+/", Some(&[0xfb, 0xff, 0xbf])),
            (b"W", None),
            (b"WFk==", None),
            (b"WFl", None),
            (b"WF\n=", None),
            (b"====", None),
        ] {
            assert_eq!(base64(text).as_deref(), bytes, "{text:?}");
        }
    }

    #[test]
    fn percent_signs_are_decoded_as_each_writer_means_them() {
        assert_eq!(percent(b"user.a%3Db%00").as_deref(), Some(&b"user.a=b\0"[..]));
        assert_eq!(percent(b"user.%3"), None);
        assert_eq!(percent(b"user.%zz"), None);
        assert_eq!(gnu_keyword(b"user.a%3Db%253D%41%"), b"user.a=b%3D%41%");
    }
}
