//! The archive reader: no archive panics, grows or stays, and how it is cut into reads, and
//! whether its content is looked at, changes nothing of the verdict.
#![no_main]

use std::convert::Infallible;
use std::io::Read;

use airlock_archive::{Content, LayerFault, Position, Stop, Summary, Visitor, read_layer, scan};
use airlock_fuzz::seeds;
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::ArchiveLimits;
use airlock_tests::hostile::archive::{gzip, zstd};
use airlock_tests::hostile::cases;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { seeds(make); }, |data: &[u8]| {
    let [how, data @ ..] = data else { return };
    let mut tar = data.to_vec();
    if how & 1 != 0 {
        mend_sums(&mut tar);
    }
    let blob = match how >> 1 & 3 {
        1 => gzip(&tar),
        2 => zstd(&tar, 0),
        _ => tar,
    };
    let limits = ArchiveLimits {
        entries: 1000,
        file_bytes: 64 << 20,
        total_bytes: 128 << 20,
        ratio_from_bytes: 1 << 20,
        ..ArchiveLimits::default()
    };
    let scanned = scan(&blob[..], &limits, Position::Alone).map(|scan| scan.summary);
    let pieces = Pieces(&blob, 1 + usize::from(*how));
    let upper = scan(pieces, &limits, Position::Upper).map(|scan| scan.summary);
    let read = read_layer(Pieces(&blob, 4093), &limits, &mut Reader);
    let read_again = read_layer(Pieces(&blob, 1 + usize::from(*how) * 7), &limits, &mut Reader);
    let read = verdict(read);
    alike(&verdict(read_again), &read);
    alike(&verdict(upper), &read);
    let scanned = verdict(scanned);
    // Of a layer that lies alone it is known where its names lead.
    if !matches!(scanned, Err((rule, _)) if rule.starts_with("link.")) {
        alike(&scanned, &read);
    }
});

/// The rules of the compressed stream and of its amount. They are held ahead of the tar inside, by
/// as much as one read brings: so where such a rule is broken, and another too, the size of the
/// reads says which is met first, and at which entry. That the archive is refused stays.
const OF_THE_STREAM: [&str; 7] = [
    "archive.compressed",
    "archive.trailing",
    "archive.truncated",
    "limit.frames",
    "limit.ratio",
    "limit.total",
    "limit.window",
];

fn alike(one: &Verdict, other: &Verdict) {
    if let (Err((a, _)), Err((b, _))) = (one, other)
        && (OF_THE_STREAM.contains(a) || OF_THE_STREAM.contains(b))
    {
        return;
    }
    assert_eq!(one, other);
}

type Verdict = Result<Summary, (&'static str, Option<u64>)>;

fn verdict(result: Result<Summary, LayerFault<Infallible>>) -> Verdict {
    result.map_err(|fault| match fault {
        LayerFault::Refused(refusal) => {
            // Whatever is in it, it can be shown.
            assert!(refusal.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            (refusal.rule.code(), refusal.entry)
        }
        LayerFault::Read(error) => panic!("{error}"),
    })
}

/// Hands out so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = out.len().min(self.1);
        self.0.read(&mut out[..count])
    }
}

/// Reads all content, and checks what a visitor may rely on.
struct Reader;

impl Visitor for Reader {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        assert!(
            entry.path.components().all(|c| !matches!(c, b"" | b"." | b"..") && !c.contains(&0))
        );
        let mut end = 0;
        while let Some(chunk) = content.next_chunk()? {
            assert!(chunk.offset >= end && !chunk.bytes.is_empty());
            end = chunk.offset + chunk.bytes.len() as u64;
        }
        match &entry.kind {
            Kind::File { size, .. } => assert!(end <= *size),
            _ => assert_eq!(end, 0),
        }
        Ok(())
    }
}

/// Puts the right checksum into each block that is a header by its magic, for the fuzzer to come
/// past it.
fn mend_sums(tar: &mut [u8]) {
    for block in tar.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Our own hostile archives, as far as they are small; and those of others, where there are some.
fn make() -> Vec<Vec<u8>> {
    let mut blobs: Vec<Vec<u8>> = cases::all("canary").into_iter().map(|case| case.blob).collect();
    if let Some(folder) = std::env::var_os("AIRLOCK_HOSTILE_CORPUS") {
        let files = std::fs::read_dir(folder).unwrap();
        blobs.extend(files.filter_map(|file| std::fs::read(file.unwrap().path()).ok()));
    }
    blobs.retain(|blob| blob.len() < 32 << 10);
    blobs.iter().flat_map(|blob| [0, 1].map(|how| [&[how], &blob[..]].concat())).collect()
}
