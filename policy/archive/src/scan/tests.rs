//! Tests of the scan.
#![expect(clippy::panic_in_result_fn, reason = "a test that fails panics")]

use super::*;
use crate::testing::*;

fn scan_of(blocks: &[Block], first: bool) -> Result<Scan, Rule> {
    match scan(&tar(blocks)[..], &ArchiveLimits::default(), first) {
        Ok(scan) => Ok(scan),
        Err(LayerFault::Refused(refusal)) => Err(refusal.rule),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn in_a_first_layer_a_hard_link_names_an_earlier_file() {
    let (a, d) = (file("a", b""), directory("d"));
    let link = |target| hardlink("l", target);
    let first = |blocks: &[Block]| scan_of(blocks, true).err();
    assert_eq!(first(&[a.clone(), link("./a")]), None);
    assert_eq!(first(&[symlink("s", "/x"), link("s"), hardlink("m", "l")]), None);
    assert_eq!(first(&[link("a"), a.clone()]), Some(Rule::LinkMissing));
    assert_eq!(first(&[a.clone(), link("b")]), Some(Rule::LinkMissing));
    assert_eq!(first(&[d.clone(), link("d")]), Some(Rule::LinkMissing));
    assert_eq!(scan_of(&[link("a")], false).err(), None);
    // What a symbolic link among the parents leads to is the worker's to find out.
    let aliased = [symlink("bin", "usr/bin"), file("usr/bin/x", b""), link("bin/x")];
    assert_eq!(first(&aliased), None);
    let below = [directory("usr"), symlink("lib", "usr"), file("lib/x", b""), link("usr/x")];
    assert_eq!(first(&below), None);
}

#[test]
fn space_is_counted_in_blocks_and_holes_are_free() {
    let hole = pax(
        b'x',
        &[
            ("GNU.sparse.size", b"8589934592"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", b"4095,2,1048576,1"),
        ],
    );
    let long = "t".repeat(60);
    let scan = scan_of(
        &[
            directory("d"),
            file("one", &[1]),
            file("two", &[1; 4097]),
            file("empty", b""),
            hole,
            file("sparse", b"abc"),
            symlink("short", "x"),
            symlink("long", &long),
            hardlink("again", "one"),
            pax(b'x', &[("SCHILY.xattr.user.a", b"b")]),
            file("x", b""),
            file(".wh.gone", b""),
        ],
        true,
    )
    .unwrap();
    // d 1, one 1, two 2, sparse 2 + 1, long 1, the attribute 1.
    assert_eq!(scan.pool_bytes, 9 * 4096);
    assert_eq!(scan.inodes, 8);
    assert!(scan.has_whiteouts);
    assert_eq!(scan.summary.entries, 10);
    assert_eq!(scan.summary.file_bytes, 1 + 4097 + (8 << 30));
}

#[test]
fn a_lone_rootfs_directory_is_noticed() {
    let only = |blocks: &[Block]| scan_of(blocks, true).unwrap().is_rootfs_only;
    assert!(only(&[directory("./"), directory("rootfs"), file("rootfs/a", b"")]));
    assert!(!only(&[directory("rootfs"), file("manifest.json", b"")]));
    assert!(!only(&[directory("rootfsx")]));
    assert!(!only(&[directory("./")]));
}
