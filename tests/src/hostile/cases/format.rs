//! Archives in which two readers find different members, and those that are none.

use airlock_policy::rule::Rule;

use crate::hostile::archive::{
    Member, base_256, directory, file, gzip, hardlink, long, member, open, pax, raw_pax, record,
    tar, zstd,
};
use crate::hostile::{Case, End, holds};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(records());
    cases.extend(extensions());
    cases.extend(numbers());
    cases.extend(ends());
    cases.extend(compressed());
    cases
}

fn refused(name: &'static str, attack: &'static str, members: &[Member], rule: Rule) -> Case {
    Case::new(name, attack, tar(members), End::Refused(rule))
}

fn raw(name: &'static str, attack: &'static str, blob: Vec<u8>, rule: Rule) -> Case {
    Case::new(name, attack, blob, End::Refused(rule))
}

/// An archive as text: what a file holds that hides one.
fn hidden() -> Vec<u8> {
    open(&[file("hidden", "evil")])
}

fn sizes() -> Vec<Case> {
    let attack = "members are hidden in data whose size header and record do not agree on";
    let length = hidden().len().to_string();
    let size = [("size", length.as_bytes())];
    let with_data = |member: Member| [member.size(b"00000002000\0").bytes(), hidden()].concat();
    let end = vec![0; 1024];
    vec![
        refused(
            "size-in-record-and-header",
            attack,
            &[pax(&size), member("x", b'0', &hidden()).size(b"00000000010\0")],
            Rule::ArchiveSize,
        ),
        refused(
            "size-in-record-alone",
            attack,
            &[pax(&size), member("x", b'0', &hidden()).size(b"00000000000\0")],
            Rule::ArchiveSize,
        ),
        refused(
            "size-with-holes-in-another-record",
            "one reader goes by the size that star writes, another does not",
            &[pax(&[("SCHILY.realsize", b"4096")]), file("x", "data")],
            Rule::ArchiveSize,
        ),
        raw(
            "size-of-a-folder",
            "a folder with a size has content to some readers only",
            [with_data(directory("d")), end.clone()].concat(),
            Rule::ArchiveSize,
        ),
        raw(
            "size-of-a-hard-link",
            "a hard link with a size has content to some readers only",
            [file("f", "1").bytes(), with_data(hardlink("h", "f")), end].concat(),
            Rule::ArchiveSize,
        ),
        Case::new(
            "archive-in-a-file",
            "an archive that is a file's content is taken for members",
            tar(&[member("x.tar", b'0', &tar(&[file("hidden", "evil")]))]),
            holds(&["./x.tar file size=2048"]),
        ),
    ]
}

fn records() -> Vec<Case> {
    let attack = "a record that one reader skips is obeyed by another";
    let mut cases: Vec<Case> = [
        ("record-length-too-small", &b"10 path=evil\n"[..]),
        ("record-length-too-large", b"99 path=evil\n"),
        ("record-length-zero", b"0 path=evil\n"),
        ("record-length-huge", b"99999999999999999999999 path=evil\n"),
        ("record-length-with-zeros", b"0014 path=evil\n"),
        ("record-length-negative", b"-13 path=evil\n"),
        ("record-without-newline", b"12 path=evil"),
        ("record-without-equals", b"12 path evil\n"),
        ("record-without-key", b"9 =evil\n\n"),
        ("record-with-empty-path", b"8 path=\n"),
        ("record-twice", b"10 path=a\n10 path=b\n"),
        ("record-behind-an-empty-line", b"\n13 path=evil\n"),
    ]
    .into_iter()
    .map(|(name, body)| {
        refused(name, attack, &[raw_pax(b'x', body), file("x", "")], Rule::ArchivePax)
    })
    .collect();
    let inside = [("comment", &b"\n13 path=evil\n"[..])];
    let newline = [("SCHILY.xattr.user.x", &b"a\n16 size=999999\nb"[..])];
    cases.extend([
        Case::new(
            "record-inside-a-value",
            "a reader that splits records at newlines obeys one that is inside a value",
            tar(&[pax(&inside), file("x", "")]),
            holds(&["./x file"]),
        ),
        Case::new(
            "size-inside-an-attribute",
            "the same, where it is a size inside an attribute",
            tar(&[pax(&newline), file("x", "1"), file("y", "2")]),
            holds(&["./x file size=1", "./y file size=1"]),
        ),
        refused(
            "name-for-all-members",
            "a global header that names every member is obeyed by some readers only",
            &[raw_pax(b'g', &record("path", b"evil")), file("x", "")],
            Rule::ArchivePax,
        ),
        refused(
            "size-for-all-members",
            "a global header that sizes every member is obeyed by some readers only",
            &[raw_pax(b'g', &record("size", b"0")), file("x", "1")],
            Rule::ArchivePax,
        ),
        refused(
            "size-that-is-no-number",
            "a size that one reader reads as zero",
            &[pax(&[("size", b"0x10")]), file("x", "")],
            Rule::ArchiveNumber,
        ),
    ]);
    cases
}

fn extensions() -> Vec<Case> {
    let attack = "an extension header is applied to another extension header, or lost to it";
    let x = || pax(&[("path", b"evil")]);
    let g = || raw_pax(b'g', &record("comment", b"x"));
    let mut cases: Vec<Case> = [
        ("record-before-a-long-name", vec![x(), long(b'L', b"other"), file("x", "")]),
        ("long-name-before-a-record", vec![long(b'L', b"other"), x(), file("x", "")]),
        ("records-twice", vec![x(), x(), file("x", "")]),
        ("long-name-twice", vec![long(b'L', b"a"), long(b'L', b"b"), file("x", "")]),
        ("record-before-a-global-one", vec![x(), g(), file("x", "")]),
        ("record-before-the-end", vec![file("x", ""), x()]),
        ("long-name-before-the-end", vec![file("x", ""), long(b'L', b"a")]),
    ]
    .into_iter()
    .map(|(name, members)| refused(name, attack, &members, Rule::ArchiveExtension))
    .collect();
    cases.push(Case::new(
        "time-before-a-long-name",
        "a record is lost to the long name behind it",
        tar(&[pax(&[("mtime", b"5.000000007")]), long(b'L', b"long"), file("x", "")]),
        holds(&["./long file 5.000000007"]),
    ));
    cases
}

fn numbers() -> Vec<Case> {
    let attack = "a number that readers read differently moves the next header";
    let above_63_bits = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let above_8_bytes = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0];
    let fields: [(&str, &[u8]); 7] = [
        ("number-with-a-plus", b"+3         \0"),
        ("number-with-a-minus", b"-1         \0"),
        ("number-in-hex", b"0x200      \0"),
        ("number-with-a-tail", b"0000001 7777"),
        ("number-behind-a-nul", b"\x000000001000\0"),
        ("number-beyond-63-bits", &above_63_bits),
        ("number-in-high-bytes", &above_8_bytes),
    ];
    let mut cases: Vec<Case> = fields
        .into_iter()
        .map(|(name, field)| {
            refused(name, attack, &[file("x", "data").size(field)], Rule::ArchiveNumber)
        })
        .collect();
    let huge = base_256::<12>(-512);
    cases.extend([
        refused(
            "size-negative",
            "a negative size sends a reader back to the same header for ever",
            &[file("x", "data").size(&huge)],
            Rule::ArchiveNumber,
        ),
        Case::new(
            "numbers-blank",
            "blank fields are an error to some readers and zero to others",
            tar(&[file("x", "").set(108, &[b' '; 16]).set(136, &[b' '; 12])]),
            holds(&["./x file 0:0 0.000000000"]),
        ),
    ]);
    cases
}

fn ends() -> Vec<Case> {
    let good = || tar(&[file("a", "1")]);
    let mut bad_sum = open(&[file("a", "1"), file("b", "2")]);
    if let Some(byte) = bad_sum.get_mut(1024) {
        *byte = b'c';
    }
    let second = |mut bytes: Vec<u8>, behind: &[u8]| {
        bytes.extend_from_slice(behind);
        bytes
    };
    let cut = |bytes: Vec<u8>, length: usize| bytes.into_iter().take(length).collect::<Vec<_>>();
    let behind = "what lies behind the end is read by some readers only";
    let short = "an archive that is cut off is taken for a whole one";
    let none = "what is no archive is taken for one without members";
    vec![
        raw("second-archive", behind, second(good(), &good()), Rule::ArchiveTrailing),
        raw("one-byte-behind", behind, second(good(), b"x"), Rule::ArchiveTrailing),
        raw("cut-in-data", short, cut(open(&[file("a", "data")]), 514), Rule::ArchiveTruncated),
        raw("cut-in-a-header", short, cut(bad_sum.clone(), 1100), Rule::ArchiveTruncated),
        raw(
            "cut-in-a-long-name",
            short,
            cut(open(&[file("a", "1"), long(b'L', &[b'n'; 600])]), 1024 + 512 + 100),
            Rule::ArchiveTruncated,
        ),
        raw(
            "changed-header",
            "a header that was changed on its way is believed",
            second(bad_sum, &[0; 1024]),
            Rule::ArchiveChecksum,
        ),
        raw("nothing", none, Vec::new(), Rule::ArchiveNotTar),
        raw("noise", none, b"#!/bin/sh\n".repeat(200), Rule::ArchiveNotTar),
        raw("other-compression", none, b"\xfd7zXZ\0\0\x04".repeat(100), Rule::ArchiveNotTar),
        raw("compressed-twice", none, gzip(&gzip(&good())), Rule::ArchiveNotTar),
    ]
}

fn compressed() -> Vec<Case> {
    let good = || tar(&[file("a", "1")]);
    let damaged = "a compressed stream that is damaged is read as far as it goes";
    let cut = |mut bytes: Vec<u8>, less: usize| {
        bytes.truncate(bytes.len().saturating_sub(less));
        bytes
    };
    let mut bad_sum = gzip(&good());
    let place = bad_sum.len().saturating_sub(8);
    if let Some(byte) = bad_sum.get_mut(place) {
        *byte = !*byte;
    }
    let trailing = [gzip(&good()), b"trailing".to_vec()].concat();
    let second = [zstd(&good(), 0), zstd(&good(), 0)].concat();
    let behind = "what lies behind a compressed stream is read by some readers only";
    vec![
        raw("gzip-wrong-sum", damaged, bad_sum, Rule::ArchiveCompressed),
        raw("gzip-cut", damaged, cut(gzip(&good()), 5), Rule::ArchiveCompressed),
        raw("zstd-cut", damaged, cut(zstd(&good(), 0), 5), Rule::ArchiveCompressed),
        raw("behind-gzip", behind, trailing, Rule::ArchiveTrailing),
        raw("second-archive-in-a-second-frame", behind, second, Rule::ArchiveTrailing),
    ]
}
