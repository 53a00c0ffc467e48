//! A writer of tar archives that writes what it is told, byte by byte: no tool writes what
//! attackers do.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

use std::io::{Read as _, Write as _};

/// A header block with the data behind it.
#[derive(Clone, Debug)]
pub struct Member {
    header: [u8; 512],
    data: Vec<u8>,
}

/// A member in the ustar dialect, with the mode 0644, root's, from the year 2001.
pub fn member(name: &str, flag: u8, data: &[u8]) -> Member {
    let header = [0; 512];
    Member { header, data: data.to_vec() }
        .set(0, name.as_bytes())
        .set(100, b"0000644\x000000000\x000000000\0")
        .set(124, format!("{:011o}\0", data.len()).as_bytes())
        .set(136, b"07346545000\0")
        .set(156, &[flag])
        .set(257, b"ustar\x0000")
}

/// A regular file.
pub fn file(name: &str, data: &str) -> Member {
    member(name, b'0', data.as_bytes())
}

/// A directory with the mode 0755.
pub fn directory(name: &str) -> Member {
    member(name, b'5', b"").mode(0o755)
}

/// A symbolic link.
pub fn symlink(name: &str, target: &str) -> Member {
    member(name, b'2', b"").set(157, target.as_bytes())
}

/// A hard link.
pub fn hardlink(name: &str, target: &str) -> Member {
    member(name, b'1', b"").set(157, target.as_bytes())
}

/// A device node with these numbers.
pub fn device(name: &str, flag: u8, major: u32, minor: u32) -> Member {
    member(name, flag, b"").set(329, format!("{major:07o}\0{minor:07o}\0").as_bytes())
}

/// GNU tar's long name (`L`) or long link (`K`).
pub fn long(flag: u8, name: &[u8]) -> Member {
    member("././@LongLink", flag, &[name, b"\0"].concat()).set(257, b"ustar  \0")
}

/// A pax record with its right length.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..rest + 8).find(|total| total - total.to_string().len() == rest).unwrap();
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// A local pax header.
pub fn pax(records: &[(&str, &[u8])]) -> Member {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    raw_pax(b'x', &body)
}

/// A local (`x`) or global (`g`) pax header with this body, whatever it is.
pub fn raw_pax(flag: u8, body: &[u8]) -> Member {
    member("PaxHeaders/x", flag, body)
}

impl Member {
    /// Overwrites bytes of the header.
    ///
    /// # Panics
    ///
    /// Where they do not fit into it.
    #[must_use]
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets the mode.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        self.set(100, format!("{mode:07o}\0").as_bytes())
    }

    /// Sets the field of the size, whatever the data's size is.
    #[must_use]
    pub fn size(self, field: &[u8]) -> Self {
        self.set(124, field)
    }

    /// The header and the data, padded.
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&header[..], &self.data].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A number as GNU tar writes those that octal digits cannot say.
pub fn base_256<const N: usize>(number: i64) -> [u8; N] {
    let mut field = if number < 0 { [0xff; N] } else { [0; N] };
    let bytes = number.to_be_bytes();
    let count = bytes.len().min(N);
    field[N - count..].copy_from_slice(&bytes[bytes.len() - count..]);
    field[0] = if number < 0 { 0xff } else { 0x80 };
    field
}

/// The members without an end.
pub fn open(members: &[Member]) -> Vec<u8> {
    members.iter().flat_map(Member::bytes).collect()
}

/// The members and two blocks of zeros.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes = open(members);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Compressed by gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by zstd, with zeros behind.
pub fn zstd(bytes: &[u8], zeros: u64) -> Vec<u8> {
    zstd::stream::encode_all(bytes.chain(std::io::repeat(0).take(zeros)), 1).unwrap()
}
