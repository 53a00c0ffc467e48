//! The helper's ledger: whatever is in the file, it is read in one way or refused, and what was
//! read is kept.
#![no_main]

use std::fs::{self, File};
use std::path::Path;

use airlock_dm_helper::ledger::{Ledger, Record};
use airlock_fuzz::seeds;
use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest, TreeDigest};
use airlock_policy::layout::LayoutFacts;
use airlock_policy::name::ThinId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { seeds(make); }, |data: &[u8]| {
    // In memory: each record is waited for until it is on the disk.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(folder.path().join("ledger"), with_sums(data)).unwrap();
    let Ok(mut ledger) = open(folder.path()) else { return };
    let again = open(folder.path()).unwrap();
    assert_eq!(again.book(), ledger.book(), "compaction changed what it says");
    let Some(transaction) = ledger.book().pending().map(|intent| intent.transaction) else { return };
    // The new one is the file now.
    drop(again);
    let mut current = open(folder.path()).unwrap();
    for ledger in [&mut ledger, &mut current] {
        // The first writes to a file that was replaced: only its book counts.
        let _full_book = ledger.append(Record::Undone { transaction });
    }
    assert_eq!(open(folder.path()).unwrap().book(), current.book(), "a record was lost");
});

fn open(folder: &Path) -> Result<Ledger, airlock_dm_helper::ledger::LedgerFailure> {
    Ledger::open(File::open(folder).unwrap())
}

/// Puts the right checksum before each line that begins as a record does, for the fuzzer to come
/// past it; other lines stay as they are.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let record = line.strip_suffix(b"\n").unwrap_or(line);
        if record.starts_with(b"{") {
            bytes.extend(format!("{:08x} ", crc32(record)).into_bytes());
        }
        bytes.extend(line);
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _bit| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// A ledger with one of everything, and each of its beginnings.
fn make() -> Vec<Vec<u8>> {
    use airlock_dm_helper::ledger::{Change, Intent, Layer, PoolRecord};
    let thin = |number: u32| ThinId::try_from(number).unwrap();
    let chain = |seed: u8| ChainId(Digest::of(&[seed]));
    let layer = Layer {
        blob: BlobDigest(Digest::of(b"b")),
        diff_id: DiffId(Digest::of(b"d")),
        entries: 1,
        file_bytes: 2,
        layout: LayoutFacts::default(),
        tree: Some(TreeDigest(Digest::of(b"t"))),
    };
    let volume = |number, seed, parent| Change::CreateVolume {
        thin: thin(number),
        volume: chain(seed),
        parent,
    };
    let mut records = vec![Record::Format(1), Record::Making(true), Record::Making(false)];
    records.push(Record::Pool(PoolRecord {
        data_sectors: 1,
        metadata_sectors: 2,
        volume_sectors: 3,
        block_sectors: 256,
    }));
    let mut transaction = 0;
    let mut change = |records: &mut Vec<Record>, change| {
        transaction += 1;
        records.push(Record::Intent(Intent { transaction, change }));
        records.push(Record::Confirmed { transaction });
    };
    change(&mut records, Change::CreateBase);
    change(&mut records, Change::Seal { thin: ThinId::BASE });
    change(&mut records, volume(1, 1, None));
    records.push(Record::Filled { thin: thin(1), layer });
    change(&mut records, Change::Seal { thin: thin(1) });
    change(&mut records, volume(2, 2, Some(chain(1))));
    let name = "web".parse().unwrap();
    let (image, read_only, sectors) = (chain(1), false, Some(4));
    change(&mut records, Change::CreateSnapshot { thin: thin(3), name, image, read_only, sectors });
    records.push(Record::Grown { data_sectors: 512, metadata_sectors: 4 });
    records.push(Record::HandedOut { thin: thin(3) });
    change(&mut records, Change::Delete { thin: thin(2) });
    records
        .push(Record::Intent(Intent { transaction: transaction + 1, change: volume(4, 4, None) }));
    let lines: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    (1..=lines.len()).map(|count| lines[..count].concat().into_bytes()).collect()
}
