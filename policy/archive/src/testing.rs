//! Archives made byte by byte, for tests: no tool writes what attackers do.
#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
#![expect(clippy::panic_in_result_fn, reason = "a test that fails panics")]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};

use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::rule::Rule;

use crate::{Content, LayerFault, Stop, Summary, Visitor, read_layer};

/// One header block with the data behind it.
#[derive(Clone)]
pub(crate) struct Block {
    header: [u8; 512],
    data: Vec<u8>,
}

/// A member in the ustar dialect.
pub(crate) fn member(name: &str, flag: u8, data: &[u8]) -> Block {
    let mut header = [0; 512];
    header[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0001750\0");
    header[116..124].copy_from_slice(b"0001751\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000012\0");
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    Block { header, data: data.to_vec() }
}

pub(crate) fn file(name: &str, data: &[u8]) -> Block {
    member(name, b'0', data)
}

pub(crate) fn directory(name: &str) -> Block {
    member(name, b'5', b"")
}

pub(crate) fn symlink(name: &str, target: &str) -> Block {
    member(name, b'2', b"").set(157, target.as_bytes())
}

pub(crate) fn hardlink(name: &str, target: &str) -> Block {
    member(name, b'1', b"").set(157, target.as_bytes())
}

/// A GNU long name (`L`) or long link (`K`).
pub(crate) fn long(flag: u8, name: &[u8]) -> Block {
    let data = [name, b"\0"].concat();
    member("././@LongLink", flag, &data).set(257, b"ustar  \0")
}

/// One pax record with its right length.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..rest + 8).find(|total| total - total.to_string().len() == rest).unwrap();
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// A local (`x`) or global (`g`) pax header.
pub(crate) fn pax(flag: u8, records: &[(&str, &[u8])]) -> Block {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    member("PaxHeaders/x", flag, &body)
}

impl Block {
    /// Overwrites bytes of the header.
    pub(crate) fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The member, without the padding of its data.
    pub(crate) fn unpadded(&self) -> Vec<u8> {
        let mut header = self.header;
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        [&header[..], &self.data].concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.unpadded();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// The members, without an end.
pub(crate) fn open(members: &[Block]) -> Vec<u8> {
    members.iter().flat_map(Block::bytes).collect()
}

/// The members and two blocks of zeros.
pub(crate) fn tar(members: &[Block]) -> Vec<u8> {
    let mut bytes = open(members);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// Keeps all it is shown: entries, and their content as it will be in the volume.
#[derive(Default)]
pub(crate) struct Keeper(pub(crate) Vec<(Entry, Vec<u8>)>);

impl Visitor for Keeper {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        let mut data = Vec::new();
        if content.read_to_end(&mut data).is_err() {
            // What was wrong is the reader's to say.
            return Ok(());
        }
        self.0.push((entry.clone(), data));
        Ok(())
    }
}

pub(crate) type Outcome = (Result<Summary, Rule>, Vec<(Entry, Vec<u8>)>);

pub(crate) fn read_with(blob: &[u8], limits: &ArchiveLimits) -> Outcome {
    let mut keeper = Keeper::default();
    let summary = match read_layer(blob, limits, &mut keeper) {
        Ok(summary) => Ok(summary),
        Err(LayerFault::Refused(refusal)) => Err(refusal.rule),
        Err(other) => panic!("{other:?}"),
    };
    (summary, keeper.0)
}

/// The entries of a layer, or the rule that it broke.
pub(crate) fn read(blob: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Rule> {
    let (summary, entries) = read_with(blob, &ArchiveLimits::default());
    summary.map(|summary| {
        assert_eq!(summary.entries, entries.len() as u64);
        entries
    })
}

/// The names of a layer's entries, or the rule that it broke.
pub(crate) fn names(blob: &[u8]) -> Result<Vec<String>, Rule> {
    Ok(read(blob)?.iter().map(|(entry, _)| entry.path.to_string()).collect())
}

pub(crate) fn refusal(blob: &[u8]) -> Option<Rule> {
    read(blob).err()
}

pub(crate) fn size_of(entry: &Entry) -> u64 {
    let Kind::File { size, .. } = &entry.kind else { panic!("{entry:?} is no file") };
    *size
}
