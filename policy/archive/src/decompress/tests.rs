//! Tests of the compressed streams, through the whole reader.

use std::io::Write as _;

use airlock_policy::limit::{ArchiveLimits, MAX_EMPTY_FRAMES};
use airlock_policy::rule::Rule;
use zstd::stream::raw::CParameter;

use crate::testing::*;

fn parts() -> (Vec<u8>, Vec<u8>) {
    let mut plain = tar(&[file("a", &[3; 2000]), file("b", b"b")]);
    let rest = plain.split_off(1111);
    (plain, rest)
}

#[test]
fn members_and_frames_one_after_another_are_one_stream() {
    let (first, rest) = parts();
    let expected = Ok(vec!["a".to_owned(), "b".to_owned()]);
    let skippable = [&0x184d_2a5f_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"any"].concat();
    for blob in [
        [gzip(&first), gzip(&rest)].concat(),
        [gzip(b""), gzip(&first), gzip(b""), gzip(&rest), vec![0; 1000]].concat(),
        [zstd(&first), zstd(&rest)].concat(),
        [skippable.clone(), zstd(&first), zstd(b""), skippable.clone(), zstd(&rest), skippable]
            .concat(),
    ] {
        assert_eq!(names(&blob), expected);
    }
}

#[test]
fn a_member_with_every_header_field_is_read() {
    let mut encoder = flate2::GzBuilder::new()
        .extra([7; 300])
        .filename("name")
        .comment("comment")
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(&tar(&[file("a", b"a")])).unwrap();
    let blob = encoder.finish().unwrap();
    assert_eq!(names(&blob), Ok(vec!["a".to_owned()]));
    // Cut off inside the header, the name, the data and the trailer.
    for length in [5, 11, 100, 312, 315, blob.len() - 9, blob.len() - 1] {
        assert_eq!(refusal(&blob[..length]), Some(Rule::ArchiveCompressed), "{length}");
    }
}

#[test]
fn a_stream_cut_off_or_damaged_anywhere_is_refused() {
    let plain = tar(&[file("a", &[3; 2000])]);
    for blob in [gzip(&plain), zstd(&plain)] {
        for length in 4..blob.len() {
            assert_eq!(refusal(&blob[..length]), Some(Rule::ArchiveCompressed), "{length}");
        }
    }
    let whole = gzip(&plain);
    for at in [whole.len() - 1, whole.len() - 5] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert_eq!(refusal(&damaged), Some(Rule::ArchiveCompressed), "trailer");
    }
    for (at, value) in [(2, 7), (3, 0x20), (3, 0x80)] {
        let mut damaged = whole.clone();
        damaged[at] = value;
        assert_eq!(refusal(&damaged), Some(Rule::ArchiveCompressed), "header");
    }
}

#[test]
fn nothing_strange_may_follow_a_stream() {
    let plain = tar(&[file("a", b"a")]);
    for (blob, tail) in [
        (gzip(&plain), &b"x"[..]),
        (gzip(&plain), b"\x1f"),
        (gzip(&plain), b"\0\0\0x"),
        (zstd(&plain), b"x"),
        (zstd(&plain), &[0; 4]),
        (zstd(&plain), b"BZh9"),
    ] {
        let blob = [&blob[..], tail].concat();
        assert_eq!(refusal(&blob), Some(Rule::ArchiveTrailing), "{tail:?}");
    }
}

#[test]
fn a_window_of_more_than_8_mib_is_refused_and_one_of_8_is_not() {
    let plain = tar(&[file("a", &[3; 2000])]);
    let with_window = |log| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(log)).unwrap();
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(refusal(&with_window(23)), None);
    for log in [24, 27, 30] {
        assert_eq!(refusal(&with_window(log)), Some(Rule::LimitWindow), "{log}");
    }
    // A single segment is its own window: one of 4 GiB, by a header of 13 bytes.
    let single =
        [&0xfd2f_b528_u32.to_le_bytes()[..], &[0xe0], &(4_u64 << 30).to_le_bytes()].concat();
    assert_eq!(refusal(&single), Some(Rule::LimitWindow));
    for descriptor in [0x21_u8, 0x28] {
        let odd = [&0xfd2f_b528_u32.to_le_bytes()[..], &[descriptor, 0, 0, 0, 0, 0]].concat();
        assert_eq!(refusal(&odd), Some(Rule::ArchiveCompressed), "dictionary or reserved bit");
    }
}

#[test]
fn floods_of_nothing_end() {
    let flood = |unit: Vec<u8>, count: u32| {
        let mut blob = unit.repeat(count as usize);
        blob.extend(if unit[0] == 0x1f { gzip(&tar(&[])) } else { zstd(&tar(&[])) });
        read_with(&blob, &ArchiveLimits::default()).0.map(drop)
    };
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &[0; 4]].concat();
    for unit in [gzip(b""), zstd(b""), skippable] {
        assert_eq!(flood(unit.clone(), MAX_EMPTY_FRAMES), Ok(()));
        assert_eq!(flood(unit, MAX_EMPTY_FRAMES + 1), Err(Rule::LimitFrames));
    }
}
