//! Tests of sparse files in all four forms that GNU tar has.
#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

use airlock_policy::entry::Kind;

use super::*;
use crate::testing::*;

type Records<'a> = &'a [(&'a str, &'a [u8])];

/// Data at 512 and at 4096 of a file of 8192 bytes.
const DATA: &[u8] = b"onetwo";
const REGIONS: [(u64, u64); 2] = [(512, 3), (4096, 3)];

fn expected() -> Vec<u8> {
    let mut data = vec![0; 8192];
    data[512..515].copy_from_slice(b"one");
    data[4096..4099].copy_from_slice(b"two");
    data
}

fn old(size: u64, regions: &[(u64, u64)], data: &[u8]) -> Block {
    let mut block = member("s", b'S', data).set(257, b"ustar  \0");
    for (index, (offset, length)) in regions.iter().enumerate() {
        block = block.set(386 + index * 24, format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    block.set(483, format!("{size:011o}\0").as_bytes())
}

fn v1(map: &str, data: &[u8]) -> Vec<Block> {
    let mut body = map.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    let header = pax(
        b'x',
        &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", b"8192"),
        ],
    );
    vec![header, file("GNUSparseFile.0/s", &body)]
}

fn v0(records: &[(&str, &[u8])], data: &[u8]) -> Vec<Block> {
    let records = [&[("GNU.sparse.size", &b"8192"[..])], records].concat();
    vec![pax(b'x', &records), file("s", data)]
}

#[test]
fn all_four_forms_give_the_same_file() {
    let forms = [
        vec![old(8192, &REGIONS, DATA)],
        v0(
            &[
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"512"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"3"),
            ],
            DATA,
        ),
        v0(
            &[
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"512,3,4096,3"),
                ("GNU.sparse.name", b"s"),
            ],
            DATA,
        ),
        v1("2\n512\n3\n4096\n3\n", DATA),
    ];
    for blocks in forms {
        let entries = read(&tar(&[blocks, vec![file("next", b"n")]].concat())).unwrap();
        let [(entry, data), (next, _)] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((entry.path.as_bytes(), next.path.as_bytes()), (&b"s"[..], &b"next"[..]));
        assert_eq!(data, &expected());
        let Kind::File { size: 8192, sparse: Some(map) } = &entry.kind else { panic!("{entry:?}") };
        let regions: Vec<_> = map.regions().iter().map(|r| (r.offset, r.length)).collect();
        assert_eq!(regions, REGIONS);
    }
}

#[test]
fn a_map_may_go_on_in_further_blocks() {
    let regions: Vec<(u64, u64)> = (0..30).map(|index| (index * 512, 1)).collect();
    let data = vec![9; 30];
    let mut bytes = old(1 << 20, &regions[..4], &data).set(482, &[1]).unpadded();
    let mut rest = regions[4..].chunks(21).peekable();
    let mut map = Vec::new();
    while let Some(chunk) = rest.next() {
        let mut block = [0; 512];
        for (index, (offset, length)) in chunk.iter().enumerate() {
            let slot = format!("{offset:011o}\0{length:011o}\0");
            block[index * 24..index * 24 + 24].copy_from_slice(slot.as_bytes());
        }
        block[504] = u8::from(rest.peek().is_some());
        map.extend_from_slice(&block);
    }
    bytes.splice(512..512, map.clone());
    let (entry, content) = read(&bytes).unwrap().remove(0);
    assert_eq!(
        (size_of(&entry), content.iter().map(|byte| u32::from(*byte)).sum()),
        (1 << 20, 9 * 30_u32)
    );
    // The same without its last block: the map breaks off.
    assert_eq!(refusal(&bytes[..512 + 512]), Some(Rule::ArchiveTruncated));
}

#[test]
fn a_list_that_has_ended_may_not_go_on() {
    let block = old(8192, &REGIONS, DATA).set(482, &[1]);
    assert_eq!(refusal(&tar(&[block])), Some(Rule::LimitSparse));
}

#[test]
fn maps_that_lie_are_refused() {
    let limit = Some(Rule::LimitSparse);
    for regions in
        [&[(0, 4), (2, 2)][..], &[(4096, 3), (512, 3)], &[(8190, 6)], &[(0, 5)], &[(0, 7)], &[]]
    {
        assert_eq!(refusal(&tar(&[old(8192, regions, DATA)])), limit, "{regions:?}");
    }
    for map in [
        "2\n512\n3\n4096\n",
        "1\n512\n3\n",
        "3\n512\n3\n4096\n3\n",
        "99999999999\n",
        "-1\n",
        "2\n512\n3\n512\n3\n",
        "2\n512 3\n4096 3\n",
        "999999999999999999999999999999999\n",
        "",
    ] {
        assert_eq!(refusal(&tar(&v1(map, DATA))), limit, "{map:?}");
    }
    for (count, map) in [("1", "512,3,4096,3"), ("2", "512,3,4096"), ("2", "512,3,-1,3"), ("0", "")]
    {
        let records =
            [("GNU.sparse.numblocks", count.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        assert_eq!(refusal(&tar(&v0(&records, DATA))), limit, "{count} {map}");
    }
}

#[test]
fn records_that_no_version_has_are_refused() {
    let cases: [(Records<'_>, Rule); 8] = [
        (&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")], Rule::LimitSparse),
        (&[("GNU.sparse.major", b"1")], Rule::LimitSparse),
        (&[("GNU.sparse.realsize", b"1")], Rule::ArchiveSize),
        (&[("GNU.sparse.shape", b"1")], Rule::ArchivePax),
        (&[("GNU.sparse.offset", b"1"), ("GNU.sparse.offset", b"2")], Rule::LimitSparse),
        (&[("GNU.sparse.numbytes", b"1")], Rule::LimitSparse),
        (&[("GNU.sparse.numblocks", b"0"), ("GNU.sparse.offset", b"1")], Rule::LimitSparse),
        (&[("GNU.sparse.numblocks", b"0"), ("GNU.sparse.map", b"x")], Rule::LimitSparse),
    ];
    for (records, rule) in cases {
        assert_eq!(refusal(&tar(&v0(records, b""))), Some(rule), "{records:?}");
    }
    let map = pax(b'x', &[("GNU.sparse.numblocks", b"0")]);
    assert_eq!(refusal(&tar(&[map, file("f", b"")])), Some(Rule::LimitSparse));
    let whole = v0(&[("GNU.sparse.numblocks", b"0")], b"").remove(0);
    assert_eq!(refusal(&tar(&[whole, directory("d")])), Some(Rule::LimitSparse));
}

#[test]
fn a_file_of_nothing_but_a_hole_is_legal() {
    let (entry, data) = read(&tar(&[old(8192, &[(8192, 0)], b"")])).unwrap().remove(0);
    assert_eq!((size_of(&entry), data), (8192, vec![0; 8192]));
    let (entry, _) = read(&tar(&v1("0\n", b""))).unwrap().remove(0);
    assert_eq!(size_of(&entry), 8192);
}
