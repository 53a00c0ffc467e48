//! A line of the ledger: eight hex digits of CRC-32, a space, JSON.

use super::record::Record;

/// Why a line says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BadLine {
    /// It is not as it was written.
    Damaged,
    /// It is as it was written, by a version that knows more.
    Unknown,
}

/// The line for a record, with its end.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32(json.as_bytes())).into_bytes())
}

/// The record of a line without its end.
pub(super) fn decode(line: &[u8]) -> Result<Record, BadLine> {
    let (sum, json) = line.split_at_checked(9).ok_or(BadLine::Damaged)?;
    if sum != format!("{:08x} ", crc32(json)).as_bytes() {
        return Err(BadLine::Damaged);
    }
    serde_json::from_slice(json).map_err(|_not_ours| BadLine::Unknown)
}

/// CRC-32 as in IEEE 802.3: reflected, polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _bit| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        // The check value that catalogues of CRCs give for CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn any_changed_byte_is_seen() {
        let line = encode(&Record::Confirmed { transaction: 7 }).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        assert_eq!(decode(line), Ok(Record::Confirmed { transaction: 7 }));
        for place in 0..line.len() {
            let mut damaged = line.to_vec();
            damaged[place] ^= 1;
            assert_eq!(decode(&damaged), Err(BadLine::Damaged), "byte {place}");
            assert_eq!(decode(&line[..place]), Err(BadLine::Damaged), "cut at {place}");
        }
        let newer = br#"{"unheard":1}"#;
        let newer = [format!("{:08x} ", crc32(newer)).as_bytes(), newer].concat();
        assert_eq!(decode(&newer), Err(BadLine::Unknown));
    }
}
