//! Archives that are much more than they seem, and trees that are no root filesystem.

use airlock_policy::rule::Rule;
use airlock_policy::size::ByteSize;

use crate::hostile::archive::{
    Member, base_256, directory, file, gzip, long, member, open, pax, raw_pax, record, tar, zstd,
};
use crate::hostile::{Case, End, holds};

const MIB: u64 = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = amounts();
    cases.extend(bombs());
    cases.extend(extension_floods());
    cases.extend(sparse());
    cases.extend(layouts());
    cases
}

fn raw(name: &'static str, attack: &'static str, blob: Vec<u8>, rule: Rule) -> Case {
    Case::new(name, attack, blob, End::Refused(rule))
}

/// A file that is all hole, by GNU tar's format 0.1.
fn hole(name: &str, size: u64) -> [Member; 2] {
    let size = size.to_string();
    let records: [(&str, &[u8]); 3] = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.map", b""),
    ];
    [pax(&records), file(name, "")]
}

fn amounts() -> Vec<Case> {
    let many: Vec<Member> = (0..101).map(|n| file(&format!("f{n}"), "")).collect();
    let holes: Vec<Member> = (0..5).flat_map(|n| hole(&format!("f{n}"), 8 << 30)).collect();
    let noise: Vec<u8> =
        (0..1_500_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    vec![
        raw(
            "entries-beyond-the-limit",
            "so many entries that the filesystem has no inode left",
            tar(&many),
            Rule::LimitEntries,
        )
        .limited(|limits| limits.entries = 100),
        Case::new(
            "entries-at-the-limit",
            "a limit that refuses what it allows",
            tar(&many),
            End::Accepted(many_files()),
        )
        .limited(|limits| limits.entries = 101),
        raw(
            "file-too-large",
            "one file that fills the disk",
            open(&[file("f", "").size(&base_256::<12>(9 << 30))]),
            Rule::LimitFile,
        ),
        raw(
            "files-too-large-together",
            "files that are all hole, each within its limit, which whoever copies them fills",
            tar(&holes),
            Rule::LimitTotal,
        ),
        raw(
            "archive-too-large",
            "an archive that goes on for ever",
            tar(&[member("f", b'0', &noise)]),
            Rule::LimitTotal,
        )
        .limited(|limits| limits.total_size = ByteSize::mib(4)),
    ]
}

fn many_files() -> Vec<String> {
    let mut names: Vec<String> = (0..101).map(|n| format!("./f{n} file size=0")).collect();
    names.sort();
    names
}

fn bombs() -> Vec<Case> {
    // `Summary` of a bomb as it is told: a file of 300 MiB, of which a few KiB are there.
    let large = || file("f", "").size(format!("{:011o}\0", 300 * MIB).as_bytes()).bytes();
    let zeros = vec![0; 4 << 20];
    let behind = [tar(&[file("f", "1")]), vec![0; 300 << 20]].concat();
    // Magic number, descriptor, window of 2 GiB; and magic, descriptor of a single segment, size of 1 TiB.
    let window = [&b"\x28\xb5\x2f\xfd\x00\xa8"[..], &[0; 64]].concat();
    let segment = [&b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\x01\0\0"[..], &[0; 64]].concat();
    let skippable = b"\x50\x2a\x4d\x18\0\0\0\0".repeat(70_000);
    let bomb = "a few bytes unpack to more than the disk or the patience of the reader holds";
    let flood = "parts without content cost time, and add to no other count";
    vec![
        raw("bomb-zstd", bomb, zstd(&large(), 300 * MIB), Rule::LimitRatio),
        raw("bomb-gzip", bomb, gzip(&[large(), vec![0; 300 << 20]].concat()), Rule::LimitRatio),
        raw(
            "bomb-of-members",
            "the same in many gzip members, each of which is harmless",
            [gzip(&large()), gzip(&zeros).repeat(75)].concat(),
            Rule::LimitRatio,
        ),
        raw(
            "bomb-behind-the-end",
            "zeros behind the end are not counted",
            gzip(&behind),
            Rule::LimitRatio,
        ),
        raw(
            "window",
            "a frame asks for gigabytes of memory before its first byte",
            window,
            Rule::LimitWindow,
        ),
        raw(
            "window-of-a-single-segment",
            "the same by the size of its content",
            segment,
            Rule::LimitWindow,
        ),
        raw("frames-to-be-skipped", flood, skippable, Rule::LimitFrames),
        raw("members-without-content", flood, gzip(b"").repeat(70_000), Rule::LimitFrames),
    ]
}

fn extension_floods() -> Vec<Case> {
    let huge = |flag| member("x", flag, b"").size(b"10000000000\0").bytes();
    let many: Vec<u8> = (0..60_000).flat_map(|n| record(&format!("c{n}"), b"")).collect();
    let globals: Vec<Member> = (0..1025).map(|_| raw_pax(b'g', &record("comment", b"x"))).collect();
    let read_whole = "an extension header is read into memory before its size is looked at";
    vec![
        raw("record-of-a-gigabyte", read_whole, zstd(&huge(b'x'), 64 * MIB), Rule::LimitExtension),
        raw(
            "long-name-of-a-gigabyte",
            read_whole,
            zstd(&huge(b'L'), 64 * MIB),
            Rule::LimitExtension,
        ),
        raw(
            "long-link-of-a-gigabyte",
            read_whole,
            zstd(&huge(b'K'), 64 * MIB),
            Rule::LimitExtension,
        ),
        raw("global-of-a-gigabyte", read_whole, zstd(&huge(b'g'), 64 * MIB), Rule::LimitExtension),
        raw(
            "records-without-number",
            "a header of so many records that keeping them takes the memory",
            tar(&[raw_pax(b'x', &many), file("f", "")]),
            Rule::LimitExtension,
        ),
        raw(
            "global-headers-without-number",
            "headers that are no entries are counted nowhere",
            tar(&globals),
            Rule::LimitExtension,
        ),
    ]
}

/// An old GNU sparse header: regions, and the size with holes.
fn old_sparse(data: &[u8], regions: &[(u64, u64)], size: u64) -> Member {
    let mut header = member("f", b'S', data).set(257, b"ustar  \0");
    for (number, (offset, length)) in regions.iter().take(4).enumerate() {
        let fields = format!("{offset:011o}\0{length:011o}\0");
        header = header.set(number.saturating_mul(24).saturating_add(386), fields.as_bytes());
    }
    header.set(483, format!("{size:011o}\0").as_bytes())
}

fn sparse() -> Vec<Case> {
    let attack = "a sparse map writes where it must not, takes the memory, or has no end";
    let map = |map: &[u8], count: &[u8]| {
        let records: [(&str, &[u8]); 3] = [
            ("GNU.sparse.size", b"4096"),
            ("GNU.sparse.numblocks", count),
            ("GNU.sparse.map", map),
        ];
        vec![pax(&records), member("f", b'0', &[b'x'; 512])]
    };
    let in_data = |text: &[u8]| {
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"4096"),
        ];
        let mut data = text.to_vec();
        data.resize(512, 0);
        vec![pax(&records), member("GNUSparseFile.0/f", b'0', &data)]
    };
    let full = [(0, 1), (2, 1), (4, 1), (6, 1)];
    let mut endless = open(&[old_sparse(b"", &full, 1 << 30).set(482, &[1])]);
    for block in 0..20_000_u64 {
        let mut extension = Vec::new();
        for slot in (0..42_u64).step_by(2) {
            let at = block.saturating_mul(42).saturating_add(8).saturating_add(slot);
            extension.extend(format!("{at:011o}\0{:011o}\0", 1).into_bytes());
        }
        extension.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        endless.extend(extension);
    }
    let refused = |name, members: Vec<Member>| {
        Case::new(name, attack, tar(&members), End::Refused(Rule::LimitSparse))
    };
    vec![
        refused("sparse-overlap", map(b"0,300,200,212", b"2")),
        refused("sparse-descending", map(b"1000,212,0,300", b"2")),
        refused("sparse-beyond-the-end", map(b"4000,512", b"1")),
        refused("sparse-that-overflows", map(b"18446744073709551615,512", b"1")),
        refused("sparse-short-of-data", map(b"0,100", b"1")),
        refused("sparse-wrong-count", map(b"0,512", b"2")),
        refused("sparse-half-a-region", map(b"0,512,7", b"1")),
        refused("sparse-a-billion-regions", in_data(b"1000000000\n0\n1\n")),
        refused("sparse-map-longer-than-data", in_data(b"90\n0\n1\n")),
        refused("sparse-map-without-lines", in_data(&[b'1'; 512])),
        refused("sparse-old-overlap", vec![old_sparse(&[b'x'; 20], &[(0, 10), (5, 10)], 100)]),
        raw("sparse-old-without-end", attack, endless, Rule::LimitSparse),
        Case::new(
            "sparse-all-hole",
            "a file that is all hole is written out, and fills the disk",
            tar(&hole("f", 1 << 30)),
            holds(&["./f file size=1073741824 data=[]"]),
        ),
    ]
}

fn layouts() -> Vec<Case> {
    let bad = |name, attack, members: &[Member], rule| {
        Case::new(name, attack, tar(members), End::BadLayout(rule))
    };
    vec![
        bad(
            "layout-no-root-filesystem",
            "an archive of something else is activated as a root filesystem",
            &[directory("etc"), file("usr", "a file")],
            Rule::LayoutDirectories,
        ),
        bad(
            "layout-open-root",
            "a root that everybody may write to",
            &[directory("./").mode(0o777), directory("etc"), directory("usr")],
            Rule::LayoutRootMode,
        ),
        bad(
            "layout-open-folder",
            "a folder of programs that everybody may write to",
            &[directory("etc"), directory("usr"), directory("usr/bin").mode(0o777)],
            Rule::LayoutWritable,
        ),
        bad(
            "layout-open-folder-behind-a-link",
            "the same, where a link leads to the folder",
            &[
                directory("usr"),
                directory("data"),
                directory("data/x").mode(0o777),
                crate::hostile::archive::symlink("etc", "data"),
            ],
            Rule::LayoutWritable,
        ),
        // Used so that a long name is seen to be no way around the rule.
        bad(
            "layout-long-name",
            "the same, where the folder has a long name",
            &[
                directory("etc"),
                directory("usr"),
                long(b'L', format!("usr/{}", "n".repeat(200)).as_bytes()),
                directory("x").mode(0o777),
            ],
            Rule::LayoutWritable,
        ),
    ]
}
