//! Small layers for tests, made by hand.

/// A tar of a root filesystem that differs by `content`.
pub(crate) fn rootfs(content: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    for dir in ["./", "etc/", "usr/"] {
        entry(&mut tar, dir, b'5', b"");
    }
    entry(&mut tar, "etc/motd", b'0', content.as_bytes());
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The same with a directory around it.
pub(crate) fn wrapped(content: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    for dir in ["./", "rootfs/", "rootfs/etc/", "rootfs/usr/"] {
        entry(&mut tar, dir, b'5', b"");
    }
    entry(&mut tar, "rootfs/etc/motd", b'0', content.as_bytes());
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A tar with an entry that leads out of the image.
pub(crate) fn hostile() -> Vec<u8> {
    let mut tar = Vec::new();
    entry(&mut tar, "../evil", b'0', b"x");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A ustar header (POSIX.1-1988) and the data behind it.
fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, data: &[u8]) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, if kind == b'5' { "0000755" } else { "0000644" });
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", data.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\0");
    put(263, "00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The same bytes as a gzip stream of stored blocks (RFC 1951, 3.2.4; RFC 1952).
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<_> = data.chunks(65_535).collect();
    for (index, block) in blocks.iter().enumerate() {
        out.push(u8::from(index + 1 == blocks.len()));
        let length = u16::try_from(block.len()).unwrap();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    out.extend_from_slice(&(!crc).to_le_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    out
}
