//! Tests of the walk: what a complete archive is, and what each rule of it refuses.

use airlock_policy::digest::Digest;

use super::*;
use crate::testing::*;

mod faults;

fn sample() -> Vec<Block> {
    vec![
        directory("./"),
        file("a", b"first"),
        long(b'L', "n".repeat(200).as_bytes()),
        file("short", &[7; 700]),
        pax(b'x', &[("path", b"p"), ("mtime", b"1.5"), ("SCHILY.xattr.user.k", b"v")]),
        file("x", b""),
        symlink("s", "/etc/passwd"),
        hardlink("h", "a"),
    ]
}

#[test]
fn all_dialects_and_kinds_come_through_with_their_metadata() {
    let entries = read(&tar(&sample())).unwrap();
    let shown: Vec<String> = entries
        .iter()
        .map(|(entry, data)| format!("{} {:?} {}", entry.path, entry.kind, data.len()))
        .collect();
    assert_eq!(
        shown,
        [
            "/ Directory 0".to_owned(),
            "a File { size: 5, sparse: None } 5".to_owned(),
            format!("{} File {{ size: 700, sparse: None }} 700", "n".repeat(200)),
            "p File { size: 0, sparse: None } 0".to_owned(),
            format!("s Symlink {{ target: {:?} }} 0", b"/etc/passwd"),
            "h Hardlink { target: a } 0".to_owned(),
        ],
    );
    let (entry, _) = &entries[3];
    assert_eq!((entry.index, entry.mode, entry.uid, entry.gid), (3, 0o644, 1000, 1001));
    assert_eq!((entry.mtime.seconds, entry.mtime.nanoseconds), (1, 500_000_000));
    assert_eq!(&*entry.xattrs[0].name, b"user.k");
    assert_eq!(entries[1].0.mtime.seconds, 10);
}

#[test]
fn the_summary_covers_every_byte_of_blob_and_tar() {
    let mut plain = tar(&sample());
    plain.resize(plain.len() + 10_240, 0);
    for (blob, compression) in [
        (plain.clone(), Compression::Plain),
        (gzip(&plain), Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
    ] {
        let summary = read_with(&blob, &ArchiveLimits::default()).0.unwrap();
        assert_eq!(summary.compression, compression);
        assert_eq!(summary.blob, BlobDigest(Digest::of(&blob)));
        assert_eq!(summary.diff_id, DiffId(Digest::of(&plain)));
        assert_eq!(summary.blob_bytes, blob.len() as u64);
        assert_eq!(summary.tar_bytes, plain.len() as u64);
        assert_eq!((summary.entries, summary.file_bytes), (6, 705));
    }
}

#[test]
fn an_archive_may_end_right_behind_the_data_of_its_last_member() {
    let whole = tar(&sample());
    // The link at the end has no data: cut anywhere behind its header, all six are there.
    let end = open(&sample()).len();
    for length in end..=whole.len() {
        assert_eq!(names(&whole[..length]).map(|names| names.len()), Ok(6), "{length}");
    }
    let last = [directory("d"), file("f", b"12345")];
    let data_end = open(&last).len() - 507;
    for length in data_end..open(&last).len() {
        assert_eq!(names(&tar(&last)[..length]), Ok(vec!["d".to_owned(), "f".to_owned()]));
    }
    assert_eq!(refusal(&tar(&last)[..data_end - 1]), Some(Rule::ArchiveTruncated));
}

#[test]
fn an_archive_cut_off_anywhere_else_is_refused() {
    let whole = open(&sample());
    let mut ends = vec![];
    for length in 0..whole.len() {
        if let Ok(names) = names(&whole[..length]) {
            ends.push((names.len(), length));
        }
    }
    // Accepted are only cuts in the padding behind a member or between two members.
    ends.dedup_by_key(|(entries, _)| *entries);
    let first = sample().iter().map(|block| block.unpadded().len()).collect::<Vec<_>>();
    assert_eq!(ends[..3], [(1, 512), (2, 512 + first[1]), (3, 512 + 1024 + 1024 + 512 + 700)]);
}

#[test]
fn what_is_no_tar_is_refused_as_such() {
    for blob in
        [&b""[..], b"hello", &[1; 512], &[0xff; 2000], b"\x1f\x9d\x90", &gzip(b""), &zstd(b"x")]
    {
        assert_eq!(refusal(blob), Some(Rule::ArchiveNotTar), "{blob:?}");
    }
    assert_eq!(names(&[0; 1024]), Ok(vec![]));
}

#[test]
fn nothing_but_zeros_may_follow_the_end() {
    let one = tar(&[file("a", b"x")]);
    assert_eq!(refusal(&[&one[..], &one].concat()), Some(Rule::ArchiveTrailing));
    assert_eq!(refusal(&[&one[..], &[0; 4096], b"x"].concat()), Some(Rule::ArchiveTrailing));
    let lone = [open(&[file("a", b"")]), vec![0; 512], tar(&[file("b", b"")])].concat();
    assert_eq!(refusal(&lone), Some(Rule::ArchiveTrailing));
    assert_eq!(refusal(&gzip(&[&one[..], b"x"].concat())), Some(Rule::ArchiveTrailing));
}

#[test]
fn a_tar_inside_a_file_is_only_data() {
    let inner = tar(&[file("../evil", b"x"), symlink("..", "/")]);
    assert_eq!(names(&tar(&[file("inner.tar", &inner)])), Ok(vec!["inner.tar".to_owned()]));
}

#[test]
fn a_size_that_record_and_header_do_not_agree_on_is_refused() {
    let with =
        |size: &[u8], data: &[u8]| refusal(&tar(&[pax(b'x', &[("size", size)]), file("f", data)]));
    assert_eq!(with(b"5", b"12345"), None);
    for size in [&b"0"[..], b"4", b"6", b"1024"] {
        assert_eq!(with(size, b"12345"), Some(Rule::ArchiveSize));
    }
    assert_eq!(with(b"512", b""), Some(Rule::ArchiveSize));
    for sized in [directory("d"), symlink("l", "t"), hardlink("l", "t"), member("f", b'6', b"")] {
        let sized = sized.set(124, b"00000001000\0");
        let blob = tar(&[sized, file("hidden", b"")]);
        assert_eq!(refusal(&blob), Some(Rule::ArchiveSize));
    }
}

#[test]
fn a_header_that_is_not_exact_is_refused() {
    let first = file("a", b"");
    let broken = {
        let mut bytes = tar(&[first.clone(), file("b", b"")]);
        bytes[512] ^= 1;
        bytes
    };
    assert_eq!(refusal(&broken), Some(Rule::ArchiveChecksum));
    for (at, field) in [
        (100, &b"0000+44\0"[..]),
        (108, b"-0001750"),
        (116, b"00x1751\0"),
        (124, b"0000000001 2"),
        (136, b"1.5\0\0\0\0\0\0\0\0\0"),
        (124, &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (124, &[0xff; 12]),
    ] {
        let blob = tar(&[first.clone(), file("b", b"").set(at, field)]);
        assert_eq!(refusal(&blob), Some(Rule::ArchiveNumber), "{field:?}");
    }
    for flag in [b'8', b'A', b'D', b'M', b'N', b'V', b'X', b'S', 1, 0xff] {
        assert_eq!(refusal(&tar(&[member("a", flag, b"")])), Some(Rule::KindUnknown), "{flag}");
    }
}

#[test]
fn a_size_that_some_readers_read_and_others_do_not_must_not_matter() {
    let doubtful = file("a", b"").set(124, b"\0\0\0\0\0\0\x001000");
    assert_eq!(names(&tar(std::slice::from_ref(&doubtful))), Ok(vec!["a".to_owned()]));
    assert_eq!(refusal(&tar(&[doubtful, file("b", b"")])), Some(Rule::ArchiveNumber));
}

#[test]
fn extension_headers_belong_to_exactly_one_member() {
    let (x, l, k) = (pax(b'x', &[("path", b"p")]), long(b'L', b"n"), long(b'K', b"t"));
    let plain = pax(b'x', &[("comment", b"c")]);
    let global = pax(b'g', &[("comment", b"c")]);
    let f = file("f", b"");
    for blocks in [
        vec![x.clone(), x.clone(), f.clone()],
        vec![l.clone(), l.clone(), f.clone()],
        vec![k.clone(), k.clone(), f.clone()],
        vec![x.clone(), l.clone(), f.clone()],
        vec![l.clone(), x.clone(), f.clone()],
        vec![x.clone(), global.clone(), f.clone()],
        vec![f.clone(), x],
        vec![f.clone(), l.clone()],
    ] {
        assert_eq!(refusal(&tar(&blocks)), Some(Rule::ArchiveExtension));
        assert_eq!(refusal(&open(&blocks)), Some(Rule::ArchiveExtension));
    }
    let legal = [global.clone(), l, k, plain, f, global];
    assert_eq!(names(&tar(&legal)), Ok(vec!["n".to_owned()]));
}

#[test]
fn extension_headers_are_held_to_a_size_before_they_are_read() {
    let huge = |block: Block| block.set(124, b"77777777777\0");
    for block in [long(b'L', b"n"), long(b'K', b"n"), pax(b'x', &[]), pax(b'g', &[])] {
        assert_eq!(refusal(&open(&[huge(block)])), Some(Rule::LimitExtension));
    }
    let flood = vec![pax(b'g', &[("comment", b"c")]); 1025];
    assert_eq!(refusal(&tar(&flood)), Some(Rule::LimitExtension));
    assert_eq!(refusal(&tar(&[long(b'L', &[b'a'; 4607]), file("f", b"")])), Some(Rule::NameLength));
}

#[test]
fn a_long_name_ends_at_its_first_nul_and_a_record_never_holds_one() {
    let long = tar(&[long(b'L', b"a\0../../etc"), file("f", b"")]);
    assert_eq!(names(&long), Ok(vec!["a".to_owned()]));
    let record = tar(&[pax(b'x', &[("path", b"a\0b")]), file("f", b"")]);
    assert_eq!(refusal(&record), Some(Rule::NameNul));
}

#[test]
fn a_prefix_counts_in_ustar_headers_whatever_their_version_and_in_no_others() {
    let prefixed = file("name", b"").set(345, b"some/prefix");
    let name = |block: Block| names(&tar(&[block])).unwrap().remove(0);
    assert_eq!(name(prefixed.clone()), "some/prefix/name");
    assert_eq!(name(prefixed.clone().set(263, b"  ")), "some/prefix/name");
    assert_eq!(name(prefixed.clone().set(257, b"ustar  \0")), "name");
    assert_eq!(name(prefixed.set(257, &[0; 8])), "name");
}

#[test]
fn global_records_hold_for_all_that_follows_until_they_are_overruled() {
    let blob = tar(&[
        file("before", b""),
        pax(b'g', &[("uid", b"5"), ("mtime", b"7"), ("comment", b"c")]),
        file("after", b""),
        pax(b'x', &[("uid", b"6")]),
        file("local", b""),
        pax(b'g', &[("uid", b"8")]),
        file("later", b""),
    ]);
    let owners: Vec<_> =
        read(&blob).unwrap().iter().map(|(e, _)| (e.uid, e.mtime.seconds)).collect();
    assert_eq!(owners, [(1000, 10), (5, 7), (6, 7), (8, 7)]);
    for (key, value) in [
        ("path", "x"),
        ("linkpath", "x"),
        ("size", "0"),
        ("GNU.sparse.major", "1"),
        ("SCHILY.xattr.user.a", "b"),
        ("SCHILY.realsize", "1"),
    ] {
        let blob = tar(&[pax(b'g', &[(key, value.as_bytes())]), file("f", b"")]);
        assert_eq!(refusal(&blob), Some(Rule::ArchivePax), "{key}");
    }
}
