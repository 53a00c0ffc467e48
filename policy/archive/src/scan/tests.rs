//! Tests of the scan.
#![expect(clippy::panic_in_result_fn, reason = "a test that fails panics")]

use airlock_policy::rule::Rule;

use super::*;
use crate::testing::*;

fn scan_of(blocks: &[Block], position: Position) -> Result<Scan, Rule> {
    match scan(&tar(blocks)[..], &ArchiveLimits::default(), position) {
        Ok(scan) => Ok(scan),
        Err(LayerFault::Refused(refusal)) => Err(refusal.rule),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn in_a_first_layer_a_hard_link_names_an_earlier_file() {
    let (a, d) = (file("a", b""), directory("d"));
    let link = |target| hardlink("l", target);
    let first = |blocks: &[Block]| scan_of(blocks, Position::Lowest).err();
    assert_eq!(first(&[a.clone(), link("./a")]), None);
    assert_eq!(first(&[symlink("s", "/x"), link("s"), hardlink("m", "l")]), None);
    assert_eq!(first(&[link("a"), a.clone()]), Some(Rule::LinkMissing));
    assert_eq!(first(&[a.clone(), link("b")]), Some(Rule::LinkMissing));
    assert_eq!(first(&[d.clone(), link("d")]), Some(Rule::LinkMissing));
    // What lies below is the worker's to find out.
    assert_eq!(scan_of(&[link("a")], Position::Upper).err(), None);
    let aliased = [symlink("bin", "usr/bin"), file("usr/bin/x", b""), link("bin/x")];
    assert_eq!(first(&aliased), None);
    let below = [directory("usr"), symlink("lib", "usr"), file("lib/x", b""), link("usr/x")];
    assert_eq!(first(&below), None);
    let elsewhere = [directory("usr"), symlink("lib", "usr"), file("lib/x", b""), link("usr/y")];
    assert_eq!(first(&elsewhere), Some(Rule::LinkMissing));
    // What it stands in the way of goes, and what it names with it.
    let within = [file("d/f", b""), hardlink("d", "d/f")];
    assert_eq!(first(&within), Some(Rule::LinkMissing));
    assert_eq!(first(&[file("d/f", b""), file("e/g", b""), hardlink("e", "d/f")]), None);
}

#[test]
fn links_among_parents_are_followed_as_in_the_volume() {
    let many = |count: usize| {
        let links = (0..count).map(|n| symlink(&format!("l{n}"), &format!("l{}", n + 1)));
        let end = directory(&format!("l{count}"));
        [end].into_iter().chain(links).chain([file("l0/f", b"")]).collect::<Vec<_>>()
    };
    let (d, below) = (directory("d"), |name: &str| file(&format!("{name}/f"), b""));
    let cases = [
        (vec![d.clone(), symlink("s", "d"), below("s")], None),
        (vec![d.clone(), symlink("s", "/d/./../d"), below("s")], None),
        (vec![d.clone(), symlink("d/s", "../../../d"), below("d/s")], None),
        (vec![symlink("s", ".."), below("s")], None),
        (vec![symlink("s", "d"), below("s")], Some(Rule::LinkParent)),
        (vec![symlink("s", "d"), below("d"), below("s")], None),
        (vec![symlink("s", "s"), below("s")], Some(Rule::LinkParent)),
        (vec![file("s", b""), below("s")], Some(Rule::LinkParent)),
        (vec![d.clone(), symlink("s", "d"), file("d", b""), below("s")], Some(Rule::LinkParent)),
        (vec![d.clone(), symlink("d", "/e"), directory("e"), below("d")], None),
        (many(40), None),
        (many(41), Some(Rule::LinkParent)),
    ];
    for (number, (blocks, verdict)) in cases.into_iter().enumerate() {
        for position in [Position::Alone, Position::Lowest] {
            assert_eq!(scan_of(&blocks, position).err(), verdict, "case {number}");
        }
        assert_eq!(scan_of(&blocks, Position::Upper).err(), None);
    }
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
        Position::Alone,
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
fn a_wrapped_root_filesystem_is_noticed_where_it_lies_alone() {
    let wrapped = |blocks: &[Block]| scan_of(blocks, Position::Alone).map(|scan| scan.is_wrapped);
    let inside = [directory("./"), directory("rootfs"), file("rootfs/a", b"")];
    assert_eq!(wrapped(&inside), Ok(true));
    for position in [Position::Lowest, Position::Upper] {
        assert!(!scan_of(&inside, position).unwrap().is_wrapped);
    }
    assert_eq!(wrapped(&[directory("rootfs"), file("manifest.json", b"")]), Ok(false));
    assert_eq!(wrapped(&[directory("rootfs"), symlink("rootfs", "x")]), Ok(false));
    assert_eq!(wrapped(&[directory("rootfsx")]), Ok(false));
    assert_eq!(wrapped(&[directory("./")]), Ok(false));
}

/// Which root a link leads from is known at the end.
#[test]
fn links_of_a_wrapped_root_filesystem_lead_where_they_will() {
    let (top, etc) = (directory("rootfs"), directory("rootfs/etc"));
    let through = |target| [symlink("rootfs/s", target), file("rootfs/s/f", b"")];
    let start = [top, etc];
    let other = [directory("etc")];
    let verdict = |blocks: &[Block], end: &[Block]| {
        scan_of(&[&start, blocks, end].concat(), Position::Alone).map(|scan| scan.is_wrapped)
    };
    assert_eq!(verdict(&through("/etc"), &[]), Ok(true));
    assert_eq!(verdict(&through("/rootfs/etc"), &[]), Err(Rule::LinkParent));
    assert_eq!(verdict(&through("nowhere"), &[]), Err(Rule::LinkParent));
    // Not wrapped after all: what is not sure any more, the worker finds out.
    assert_eq!(verdict(&through("/rootfs/etc"), &other), Ok(false));
    assert_eq!(verdict(&through("nowhere"), &other), Err(Rule::LinkParent));
    let late = [symlink("s", "/rootfs/etc"), file("s/g", b""), hardlink("h", "rootfs/etc/g")];
    assert_eq!(verdict(&late, &[]), Ok(false));
    assert_eq!(verdict(&late, &[hardlink("i", "etc/g")]), Err(Rule::LinkMissing));
}
