//! Tests of pax records.

use super::*;
use crate::testing::record;

fn local(records: &[(&str, &[u8])]) -> Result<Pax, Rule> {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    Pax::local(&body)
}

#[test]
fn a_record_is_exactly_what_its_length_says() {
    for body in [
        &b"6 a=b"[..],
        b"5 a=b\n",
        b"7 a=b\n",
        b"6 a=b\n\n",
        b"06 a=b\n",
        b"+6 a=b\n",
        b"6a=b\n",
        b"5 a=\n6 b",
        b"5 ab\n",
        b"5 =b\n",
        b"0 a=b\n",
        b"1 ",
        b" 6 a=b\n",
        b"99999999999999999999 a=b\n",
        b"999999999999999999999999 a=b\n",
        b"6 a=b\n\0\0\0",
        b"\0",
    ] {
        assert_eq!(Pax::local(body).map(drop), Err(Rule::ArchivePax), "{body:?}");
    }
    assert!(Pax::local(b"").is_ok());
    assert!(Pax::local(b"6 a=b\n5 b=\n").is_ok());
}

#[test]
fn what_looks_like_a_record_inside_a_value_is_value() {
    let pax = local(&[("SCHILY.xattr.user.a", b"x\n12 path=evil\n"), ("size", b"3")]).unwrap();
    assert_eq!((pax.path, pax.size), (None, Some(3)));
}

#[test]
fn a_key_is_said_once_and_not_emptily() {
    for (key, value) in
        [("path", "a"), ("size", "1"), ("comment", "c"), ("SCHILY.xattr.user.a", "b")]
    {
        let value = value.as_bytes();
        assert_eq!(local(&[(key, value), ("x", b"y"), (key, value)]).err(), Some(Rule::ArchivePax));
    }
    for key in ["path", "linkpath", "size", "uid", "gid", "mtime", "GNU.sparse.name"] {
        assert_eq!(local(&[(key, b"")]).err(), Some(Rule::ArchivePax), "{key}");
    }
    assert!(local(&[("comment", b""), ("NODETAR.x", b"")]).is_ok());
}

#[test]
fn times_are_rounded_down_to_nanoseconds() {
    for (text, seconds, nanoseconds) in [
        ("0", 0, 0),
        ("1350244992.023960108", 1_350_244_992, 23_960_108),
        ("1.5", 1, 500_000_000),
        ("1.0000000019", 1, 1),
        ("-1", -1, 0),
        ("-1.25", -2, 750_000_000),
        ("-0.5", -1, 500_000_000),
        ("-1.0000000001", -2, 999_999_999),
        ("-1.0000000000", -1, 0),
    ] {
        assert_eq!(time(text.as_bytes()), Ok(Time { seconds, nanoseconds }), "{text}");
    }
    for bad in
        ["1.", ".5", "1.5.5", "1e3", "+1", "--1", " 1", "0x1", "nan", "1,5", "99999999999999999999"]
    {
        assert_eq!(time(bad.as_bytes()), Err(Rule::ArchiveNumber), "{bad}");
    }
}

#[test]
fn ids_and_sizes_are_plain_decimal_numbers() {
    let pax = local(&[("uid", b"2147483646"), ("gid", b"-2"), ("size", b"8589934592")]).unwrap();
    assert_eq!(pax.common.uid, Some(2_147_483_646));
    assert_eq!(pax.common.gid, Some(-2));
    assert_eq!(pax.size, Some(8 << 30));
    for (key, value) in
        [("uid", "+1"), ("gid", "1.0"), ("size", "-1"), ("size", "1 "), ("uid", "0x5")]
    {
        assert_eq!(local(&[(key, value.as_bytes())]).err(), Some(Rule::ArchiveNumber), "{key}");
    }
}

#[test]
fn attributes_of_three_writers_are_one() {
    let mut pax = local(&[
        ("SCHILY.xattr.user.a%3Db", b"one\0two"),
        ("LIBARCHIVE.xattr.user.a%3Db", b"b25lAHR3bw"),
        ("LIBARCHIVE.xattr.user.c", b"WFla"),
        ("SCHILY.xattr.user.empty", b""),
        ("RHT.security.selinux", b"label\0"),
        ("SCHILY.xattr.security.selinux", b"label"),
    ])
    .unwrap();
    let shown: Vec<(String, Vec<u8>)> = pax
        .take_xattrs()
        .into_iter()
        .map(|xattr| (String::from_utf8(xattr.name.into()).unwrap(), xattr.value.into()))
        .collect();
    let expected = [
        ("security.selinux", &b"label\0"[..]),
        ("user.a=b", b"one\0two"),
        ("user.c", b"XYZ"),
        ("user.empty", b""),
    ];
    assert_eq!(shown, expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
    for records in [
        &[("SCHILY.xattr.user.a", &b"x"[..]), ("LIBARCHIVE.xattr.user.a", b"WFla")][..],
        &[("LIBARCHIVE.xattr.user.a", b"not base 64")],
        &[("LIBARCHIVE.xattr.user.%zz", b"WFla")],
    ] {
        assert_eq!(local(records).err(), Some(Rule::ArchivePax));
    }
}

#[test]
fn records_that_change_what_the_data_means_are_obeyed_or_refused() {
    let pax = local(&[("SCHILY.realsize", b"5")]).unwrap();
    assert_eq!((pax.agrees_on(5), pax.agrees_on(4)), (Ok(()), Err(Rule::ArchiveSize)));
    assert_eq!(local(&[("SCHILY.filetype", b"sparse")]).err(), Some(Rule::LimitSparse));
    assert_eq!(local(&[("GNU.volume.offset", b"512")]).err(), Some(Rule::ArchivePax));
    assert_eq!(local(&[("hdrcharset", b"KOI8-R")]).err(), Some(Rule::ArchivePax));
    assert!(local(&[("hdrcharset", b"BINARY")]).is_ok());
}
