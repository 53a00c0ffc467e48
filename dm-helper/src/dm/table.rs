//! The text of tables (kernel, Documentation/admin-guide/device-mapper/thin-provisioning.rst).

use std::fmt;

use airlock_policy::name::ThinId;

/// The size of a data block, in sectors of 512 bytes: 128 KiB.
pub const BLOCK_SECTORS: u64 = 256;

/// The size of a metadata block, in sectors of 512 bytes: 4 KiB, the kernel's own.
pub const METADATA_BLOCK_SECTORS: u64 = 8;

/// The most metadata blocks that the kernel uses (dm-thin-metadata.h, `THIN_METADATA_MAX_SECTORS`).
pub const MAX_METADATA_BLOCKS: u64 = 255 * 16_320;

/// A block device's number, as tables spell it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}:{minor}")
    }
}

/// A device's table: one target over its whole length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The target's type.
    pub kind: &'static str,
    /// The device's length, in sectors.
    pub sectors: u64,
    /// The target's parameters.
    pub line: String,
    /// Whether the device is handed out. It is told by its uuid, for life.
    pub handed_out: bool,
}

impl Target {
    /// A thin pool. Zeroing stays on, so that a freed block never shows another volume's data, and
    /// a pool without space answers with an error and never hangs a writer (POOL-1).
    pub fn pool(metadata: Number, data: Number, data_sectors: u64, low_water_blocks: u64) -> Self {
        let line =
            format!("{metadata} {data} {BLOCK_SECTORS} {low_water_blocks} 1 error_if_no_space");
        // A last block that is not whole cannot be used.
        let sectors = data_sectors.saturating_sub(data_sectors % BLOCK_SECTORS);
        Self { kind: "thin-pool", sectors, line, handed_out: false }
    }

    /// A thin device of a pool.
    pub fn thin(pool: Number, thin: ThinId, sectors: u64) -> Self {
        Self { kind: "thin", sectors, line: format!("{pool} {thin}"), handed_out: false }
    }
}

/// Free data blocks at which the kernel raises its low-water event: blocks, not sectors.
pub const fn low_water_blocks(data_sectors: u64, percent: u8) -> u64 {
    (data_sectors / BLOCK_SECTORS).saturating_mul(percent as u64) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_the_kernel_documents_them() {
        let (metadata, data) = (Number { major: 7, minor: 1 }, Number { major: 7, minor: 0 });
        let pool = Target::pool(metadata, data, 20_971_520 + 255, 8192);
        assert_eq!(pool.line, "7:1 7:0 256 8192 1 error_if_no_space");
        assert_eq!(pool.sectors, 20_971_520);
        let thin = Target::thin(Number { major: 253, minor: 0 }, ThinId::try_from(9).unwrap(), 8);
        assert_eq!((thin.kind, thin.line.as_str()), ("thin", "253:0 9"));
    }

    #[test]
    fn the_low_water_mark_is_in_data_blocks() {
        // 10 GiB are 81,920 blocks of 128 KiB.
        assert_eq!(low_water_blocks(20_971_520, 10), 8192);
        assert_eq!(low_water_blocks(u64::MAX, 50), u64::MAX / 256 * 50 / 100);
    }
}
