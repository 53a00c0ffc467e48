//! Tests of limits, of refusals, and of visitors and blobs that fail.

use std::convert::Infallible;
use std::io::{self, Cursor};

use airlock_policy::limit::Setuid;

use super::*;

#[test]
fn limits_are_counted_on_real_bytes() {
    let limits = ArchiveLimits {
        entries: 3,
        file_bytes: 1000,
        total_bytes: 10_000,
        ratio: 10,
        ratio_from_bytes: 5000,
        setuid: Setuid::Keep,
    };
    let refusal = |blob: &[u8]| read_with(blob, &limits).0.err();
    let small = || file("f", &[1; 900]);
    assert_eq!(refusal(&tar(&[small(), small(), small()])), None);
    assert_eq!(refusal(&tar(&vec![file("f", b""); 4])), Some(Rule::LimitEntries));
    assert_eq!(refusal(&tar(&[file("f", &[1; 1001])])), Some(Rule::LimitFile));
    let tail = [tar(&[small()]), vec![0; 9000]].concat();
    assert_eq!(refusal(&tail), Some(Rule::LimitTotal));
    let bomb = [tar(&[small()]), vec![0; 5000]].concat();
    assert_eq!(refusal(&gzip(&bomb)), Some(Rule::LimitRatio));
    assert_eq!(refusal(&zstd(&bomb)), Some(Rule::LimitRatio));
    assert_eq!(refusal(&gzip(&bomb[..4096])), None);
    let claimed = file("f", b"").set(124, b"77777777777\0");
    assert_eq!(refusal(&open(&[claimed])), Some(Rule::LimitFile));
}

#[test]
fn files_with_holes_count_towards_the_total() {
    let sparse = pax(
        b'x',
        &[("GNU.sparse.size", b"8000000"), ("GNU.sparse.numblocks", b"0"), ("GNU.sparse.map", b"")],
    );
    let limits = ArchiveLimits { total_bytes: 10_000_000, ..ArchiveLimits::default() };
    let blob = tar(&[sparse.clone(), file("a", b""), sparse, file("b", b"")]);
    assert_eq!(read_with(&blob, &limits).0.err(), Some(Rule::LimitTotal));
}

#[test]
fn a_refusal_names_member_and_rule_in_printable_words() {
    let blob = tar(&[file("ok", b""), file("a/../\x1b[2J", b"")]);
    let refusal = match read_layer(&blob[..], &ArchiveLimits::default(), &mut Keeper::default()) {
        Err(LayerFault::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!((refusal.rule, refusal.entry), (Rule::NameDotdot, Some(1)));
    let text = "entry 1 \"a/../\\x1b[2J\": name.dotdot (R-202): no \"..\" component in a name";
    assert_eq!(refusal.to_string(), text);
}

/// A visitor that does one thing, whatever it is shown.
struct Stubborn(fn(&mut Content<'_>) -> Result<(), Stop<Infallible>>);

impl Visitor for Stubborn {
    type Error = Infallible;

    fn entry(&mut self, _: &Entry, content: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        (self.0)(content)
    }
}

fn shown_to(
    blob: &[u8],
    act: fn(&mut Content<'_>) -> Result<(), Stop<Infallible>>,
) -> Option<Rule> {
    match read_layer(blob, &ArchiveLimits::default(), &mut Stubborn(act)) {
        Ok(_) => None,
        Err(LayerFault::Refused(refusal)) => Some(refusal.rule),
        Err(other) => panic!("{other:?}"),
    }
}

/// What a reader says whose second thread reads ahead.
fn read_ahead(blob: &[u8]) -> Option<Rule> {
    let blob = Cursor::new(blob.to_vec());
    let start = |work: Work| drop(std::thread::spawn(work));
    let mut visitor = Stubborn(|_| Ok(()));
    match read_layer_ahead(blob, &ArchiveLimits::default(), &mut visitor, start) {
        Ok(_) => None,
        Err(LayerFault::Refused(refusal)) => Some(refusal.rule),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn two_threads_read_what_one_reads() {
    let contents: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    let plain = tar(&[file("a", &contents), file("b", &[2; 5]), file("c", &contents[..700_001])]);
    for blob in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let limits = ArchiveLimits::default();
        let alone = read_layer(&blob[..], &limits, &mut Stubborn(|_| Ok(()))).unwrap();
        let start = |work: Work| drop(std::thread::spawn(work));
        let mut visitor = Stubborn(|_| Ok(()));
        let both = read_layer_ahead(Cursor::new(blob), &limits, &mut visitor, start).unwrap();
        assert_eq!(alone, both);
    }
}

#[test]
fn a_second_thread_that_dies_is_no_end_of_the_layer() {
    let plain = tar(&[file("a", &vec![1; 600_000])]);
    let mut visitor = Stubborn(|_| Ok(()));
    let fault = read_layer_ahead(Cursor::new(plain), &ArchiveLimits::default(), &mut visitor, drop);
    assert!(matches!(fault, Err(LayerFault::Read(_))), "{fault:?}");
}

#[test]
fn a_visitor_may_refuse_skip_or_half_read_but_not_hide_a_fault() {
    let whole = tar(&[file("a", &vec![1; 600_000]), file("b", &[2; 5])]);
    let cut = &whole[..400_000];
    assert_eq!(shown_to(&whole, |_| Ok(())), None);
    assert_eq!(shown_to(&whole, |_| Err(Stop::Refuse(Rule::LinkParent))), Some(Rule::LinkParent));
    assert_eq!(shown_to(&whole, |content| Ok(content.next_chunk().map(drop)?)), None);
    let swallow = |content: &mut Content<'_>| {
        while let Ok(Some(_)) = content.next_chunk() {}
        Ok(())
    };
    assert_eq!(shown_to(&whole, swallow), None);
    assert_eq!(shown_to(cut, swallow), Some(Rule::ArchiveTruncated));
    assert_eq!(shown_to(cut, |_| Ok(())), Some(Rule::ArchiveTruncated));
}

/// A blob whose device fails behind the first bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out) {
            Ok(0) => Err(io::Error::other("device lost")),
            other => other,
        }
    }
}

#[test]
fn a_blob_that_cannot_be_read_is_not_the_layers_fault() {
    let plain = tar(&sample());
    for blob in [plain[..3000].to_vec(), gzip(&plain), zstd(&plain), Vec::new()] {
        let outcome = read_layer(Failing(&blob), &ArchiveLimits::default(), &mut Keeper::default());
        assert!(matches!(outcome, Err(LayerFault::Read(_))), "{outcome:?}");
    }
}

/// Every byte of a small archive is damaged in turn, plain and compressed: nothing panics, and
/// what is accepted agrees with itself when it is read again in a different manner.
#[test]
fn a_damaged_archive_never_panics_and_never_reads_in_two_ways() {
    let plain = tar(&sample());
    for blob in [plain.clone(), gzip(&plain), zstd(&plain)] {
        for at in 0..blob.len() {
            for value in [0x00, 0x20, 0x2f, 0x80, 0xff, blob[at] ^ 1] {
                let mut damaged = blob.clone();
                damaged[at] = value;
                let skipped = shown_to(&damaged, |_| Ok(()));
                assert_eq!(refusal(&damaged), skipped, "byte {at} is {value}");
                if value == 0xff {
                    assert_eq!(read_ahead(&damaged), skipped, "byte {at}, by two threads");
                }
            }
        }
    }
}
